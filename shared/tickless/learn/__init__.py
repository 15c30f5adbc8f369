"""Learning: labels, data sets split by time, training, ONNX export, validation, gates, and the registry's rules."""
