"""Algorithms: rows in, a fitted model out that can be asked and exported to ONNX. LightGBM, linear models, a recurrent network."""
