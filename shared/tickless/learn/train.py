"""Training: which algorithm a specification names, what its output means, and the linear model it has to be compared with."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np

import tickless
from tickless.learn.algorithms.contract import Conditions, Fitted, Output, Slices
from tickless.learn.algorithms.gru import fit_gru, has_torch
from tickless.learn.algorithms.linear import fit_logistic, fit_ridge
from tickless.learn.algorithms.trees import fit_trees
from tickless.learn.fit_spec import Algorithm, GruFit, LinearFit, TreeFit
from tickless.learn.spec import ModelSpec

OUTPUTS: Mapping[Algorithm, Output] = {
    "lightgbm_regression": "value",
    "lightgbm_classification": "probability",
    "lightgbm_ranking": "score",
    "ridge": "value",
    "logistic": "probability",
    "gru": "value",
}


def fit_model(slices: Slices, spec: ModelSpec, conditions: Conditions) -> Fitted:
    """The specification's model, fitted on ``slices.fit``; the same slices and conditions give the same model.

    Raises DataError for slices from which nothing can be learned.
    """
    output = OUTPUTS[spec.algorithm]
    slices.require_sound(spec.name, output)
    match spec.fit:
        case TreeFit():
            return fit_trees(slices, spec.fit, output, conditions)
        case LinearFit():
            return _fit_line(slices, spec.fit, output)
        case GruFit():
            return fit_gru(slices, spec.fit, conditions)


def fit_linear(slices: Slices, output: Output) -> Fitted:
    """The linear baseline of a model: logistic regression beside a classifier, ridge regression of the label beside all others."""
    return _fit_line(slices, LinearFit(), output)


def missing_library(spec: ModelSpec) -> str:
    """Why the specification cannot be trained in this environment; empty where it can."""
    if isinstance(spec.fit, GruFit) and not has_torch():
        return "PyTorch is not installed here, and algorithm = 'gru' needs it: install tickless[gru], in a checkout with 'make gru'"
    return ""


def library_names(spec: ModelSpec) -> frozenset[str]:
    """What a training of the specification computes with; where a version is only looked at, it need not be installed."""
    own = {"lightgbm"} if isinstance(spec.fit, TreeFit) else {"torch"} if isinstance(spec.fit, GruFit) else set()
    return frozenset({"numpy", "onnx", "onnxruntime", *own})


def platform_facts() -> dict[str, str]:
    """What besides libraries a training's last bits may depend on: versions of Python and of this package, and the kind of processor."""
    return {"python": platform.python_version(), "machine": platform.machine(), "tickless": tickless.__version__}


def library_versions(spec: ModelSpec) -> dict[str, str]:
    """The versions of what a training of the specification computes with, by name."""
    import onnx
    import onnxruntime

    modules: dict[str, Any] = {"numpy": np, "onnx": onnx, "onnxruntime": onnxruntime}
    if isinstance(spec.fit, TreeFit):
        import lightgbm

        modules["lightgbm"] = lightgbm
    if isinstance(spec.fit, GruFit):
        import torch

        modules["torch"] = torch
    return {name: str(module.__version__) for name, module in sorted(modules.items())}


def _fit_line(slices: Slices, fit: LinearFit, output: Output) -> Fitted:
    return fit_logistic(slices, fit) if output == "probability" else fit_ridge(slices, fit)
