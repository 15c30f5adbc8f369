"""The frame all artifacts share: one input ``x``, one output ``y`` (R, 1), the features' names in the metadata, always the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tickless.alpha.onnx_model import FEATURES_KEY

_IR_VERSION = 8
_OPSET, _ML_OPSET = 17, 3


def graph_bytes(nodes: Sequence[Any], features: Sequence[str], constants: Sequence[Any] = (), sequence_bars: int = 0) -> bytes:
    """A model whose ``nodes`` lead from ``x``, float32 (R, F) or (R, L, F), to ``y``, float32 (R, 1)."""
    from onnx import TensorProto, helper

    bars = [sequence_bars] if sequence_bars else []
    graph = helper.make_graph(
        list(nodes),
        "tickless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, *bars, len(features)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        list(constants),
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="tickless")
    helper.set_model_props(model, {FEATURES_KEY: ",".join(features)})
    return bytes(model.SerializeToString(deterministic=True))
