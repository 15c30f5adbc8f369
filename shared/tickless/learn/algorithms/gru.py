"""A recurrent network on sequences of features, fitted with PyTorch and written to ONNX from its weights.

PyTorch is needed for training only (the extra ``gru``). One thread, deterministic kernels and seeded draws: the same bits every time on
one kind of machine. Cho et al. (2014), arXiv 1406.1078; the reset gate after the product, as PyTorch and cuDNN have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats
from tickless.learn.algorithms.contract import Conditions, Rows, Slices
from tickless.learn.algorithms.graphs import graph_bytes
from tickless.learn.fit_spec import GruFit

Single = NDArray[np.float32]
_ASKED_AT_ONCE = 1024


def has_torch() -> bool:
    """Whether PyTorch is installed; it is not loaded."""
    return find_spec("torch") is not None


@dataclass(frozen=True)
class Scaling:
    """Medians and interquartile ranges of the features, (F,), and what the network's output is multiplied by."""

    median: Single
    spread: Single
    clip_z: float
    label: float

    def features(self, x: Single) -> Single:
        """Features as the network sees them, in the artifact's own float32 arithmetic."""
        clipped: Single = np.clip((x - self.median) / self.spread, np.float32(-self.clip_z), np.float32(self.clip_z))
        return clipped


@dataclass(frozen=True)
class FittedNetwork:
    """A fitted network."""

    modules: Mapping[str, Any] = field(repr=False)
    scaling: Scaling
    fit: GruFit
    rounds: int
    inner_prediction: Floats = field(repr=False)

    def predict(self, x: NDArray[np.float32]) -> Floats:
        """See ``Fitted``."""
        with _reproducible(0):
            return _ask(self.modules, self.scaling, x)

    def scaler(self, slices: Slices | None = None) -> bytes:
        """See ``Fitted``."""
        scaling = self.scaling if slices is None else _scaling(slices.fit if self.fit.refit else slices.train, self.fit)
        return scaling.median.tobytes() + scaling.spread.tobytes() + np.float64(scaling.label).tobytes()

    def export(self, features: Sequence[str]) -> bytes:
        """See ``Fitted``."""
        return _export(self, features)


def fit_gru(slices: Slices, fit: GruFit, conditions: Conditions) -> FittedNetwork:
    """Fit ``slices.train`` until ``slices.inner`` gains no more; then, unless ``fit.refit`` is off, all for as many epochs.

    The second fit repeats the learning rates of the first. Raises ImportError where PyTorch is not installed.
    """
    with _reproducible(conditions.seed):
        scaling = _scaling(slices.train, fit)
        modules, rates = _fit_until_settled(slices, scaling, fit, conditions.seed)
        said = _ask(modules, scaling, slices.inner.x)
    if not fit.refit:
        return FittedNetwork(modules, scaling, fit, len(rates), said)
    with _reproducible(conditions.seed):
        scaling = _scaling(slices.fit, fit)
        modules = _network(slices.fit.x.shape[2], fit)
        epoch = _epochs(modules, slices.fit, scaling, fit, conditions.seed)
        for rate in rates:
            epoch(rate)
    return FittedNetwork(modules, scaling, fit, len(rates), said)


def _fit_until_settled(slices: Slices, scaling: Scaling, fit: GruFit, seed: int) -> tuple[Mapping[str, Any], list[float]]:
    """(the network as it was after its best epoch, the learning rates up to that epoch)."""
    modules = _network(slices.train.x.shape[2], fit)
    epoch = _epochs(modules, slices.train, scaling, fit, seed)
    weight = np.ones(len(slices.inner)) if slices.inner.weight is None else slices.inner.weight
    best, best_error, idle = _copy(modules), np.inf, 0
    rate, rates, kept = fit.learning_rate, [], 0
    for _ in range(fit.epochs):
        epoch(rate)
        rates.append(rate)
        said = _ask(modules, scaling, slices.inner.x)
        error = float(np.average((said - slices.inner.y) ** 2, weights=weight))
        if error < best_error:
            best, best_error, idle, kept = _copy(modules), error, 0, len(rates)
            continue
        idle += 1
        if idle >= fit.patience:
            break
        if idle % fit.slow_after == 0:
            rate = max(fit.min_learning_rate, rate / 2.0)
    for name, module in modules.items():
        module.load_state_dict(best[name])
    return modules, rates[: max(1, kept)]


def _epochs(modules: Mapping[str, Any], rows: Rows, scaling: Scaling, fit: GruFit, seed: int) -> Callable[[float], None]:
    """A function that passes over the rows once at a learning rate; each pass draws its own order."""
    import torch

    parameters = [parameter for module in modules.values() for parameter in module.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=fit.learning_rate)
    rng = np.random.default_rng(seed)
    weight = np.ones(len(rows)) if rows.weight is None else rows.weight / rows.weight.mean()
    target = (rows.y / scaling.label).astype(np.float32)

    def epoch(rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate
        _mode(modules, training=True)
        order = rng.permutation(len(rows))
        for first in range(0, len(rows), fit.batch_rows):
            batch = np.sort(order[first : first + fit.batch_rows])
            said = _forward(modules, torch.from_numpy(scaling.features(rows.x[batch])))
            error = (said - torch.from_numpy(target[batch])) ** 2
            loss = (error * torch.from_numpy(weight[batch].astype(np.float32))).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, fit.clip_norm)
            optimizer.step()

    return epoch


def _scaling(rows: Rows, fit: GruFit) -> Scaling:
    """Robust scales of the fitted rows alone: of each sequence's last bar, because the bars before it are other sequences' last ones."""
    low, median, high = np.percentile(rows.x[:, -1, :].astype(np.float64), (25, 50, 75), axis=0)
    spread = np.where(high - low > 1e-12, high - low, 1.0)
    label = float(np.sqrt(np.mean(rows.y**2)))
    return Scaling(median.astype(np.float32), spread.astype(np.float32), fit.clip_z, label if label > 0.0 else 1.0)


def _network(width: int, fit: GruFit) -> dict[str, Any]:
    from torch import nn

    between = fit.dropout if fit.layers > 1 else 0.0
    return {
        "gru": nn.GRU(width, fit.hidden, fit.layers, batch_first=True, dropout=between),
        "drop": nn.Dropout(fit.dropout),
        "dense": nn.Linear(fit.hidden, fit.dense),
        "thin": nn.Dropout(fit.dropout / 2.0),
        "out": nn.Linear(fit.dense, 1),
    }


def _forward(modules: Mapping[str, Any], z: Any) -> Any:
    states, _ = modules["gru"](z)
    dense = modules["dense"](modules["drop"](states[:, -1])).relu()
    return modules["out"](modules["thin"](dense)).reshape(-1)


def _ask(modules: Mapping[str, Any], scaling: Scaling, x: Single) -> Floats:
    import torch

    _mode(modules, training=False)
    said = [np.empty(0, dtype=np.float32)]
    with torch.no_grad():
        for first in range(0, len(x), _ASKED_AT_ONCE):
            part = np.ascontiguousarray(scaling.features(x[first : first + _ASKED_AT_ONCE]))
            said.append(_forward(modules, torch.from_numpy(part)).numpy())
    return np.concatenate(said).astype(np.float64) * scaling.label


def _mode(modules: Mapping[str, Any], *, training: bool) -> None:
    for module in modules.values():
        module.train(training)


def _copy(modules: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {key: value.clone() for key, value in module.state_dict().items()} for name, module in modules.items()}


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """One thread, deterministic kernels and a seeded generator; all as before on leaving."""
    import torch

    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.set_num_threads(threads)


def _export(model: FittedNetwork, features: Sequence[str]) -> bytes:
    from onnx import helper, numpy_helper

    scaling = model.scaling
    constants: dict[str, Any] = {
        "median": scaling.median,
        "spread": scaling.spread,
        "low": np.asarray(-scaling.clip_z, dtype=np.float32),
        "high": np.asarray(scaling.clip_z, dtype=np.float32),
        "first": np.asarray([0], dtype=np.int64),
        "second": np.asarray([1], dtype=np.int64),
        "label": np.asarray(scaling.label, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Sub", ["x", "median"], ["centred"]),
        helper.make_node("Div", ["centred", "spread"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "low", "high"], ["clipped"]),
        helper.make_node("Transpose", ["clipped"], ["states0"], perm=[1, 0, 2]),
    ]
    weights = {key: value.detach().numpy() for key, value in model.modules["gru"].state_dict().items()}
    for layer in range(model.fit.layers):
        constants |= _layer_constants(weights, layer)
        names = [f"states{layer}", *(f"{kind}{layer}" for kind in ("w", "r", "b"))]
        nodes.append(helper.make_node("GRU", names, [f"all{layer}", f"last{layer}"], hidden_size=model.fit.hidden, linear_before_reset=1))
        if layer + 1 < model.fit.layers:
            nodes.append(helper.make_node("Squeeze", [f"all{layer}", "second"], [f"states{layer + 1}"]))
    nodes.append(helper.make_node("Squeeze", [f"last{model.fit.layers - 1}", "first"], ["state"]))
    for source, name, result in (("state", "dense", "hidden"), ("active", "out", "said")):
        linear = model.modules[name].state_dict()
        constants |= {f"{name}_{key}": linear[key].detach().numpy() for key in ("weight", "bias")}
        nodes.append(helper.make_node("Gemm", [source, f"{name}_weight", f"{name}_bias"], [result], transB=1))
        if result == "hidden":
            nodes.append(helper.make_node("Relu", ["hidden"], ["active"]))
    nodes.append(helper.make_node("Mul", ["said", "label"], ["y"]))
    return graph_bytes(
        nodes, features, [numpy_helper.from_array(value, name) for name, value in constants.items()], model.fit.sequence_bars
    )


def _layer_constants(weights: Mapping[str, Single], layer: int) -> dict[str, Single]:
    """A layer's weights in ONNX's order of gates (update, reset, new); PyTorch's is reset, update, new."""

    def gates(name: str) -> Single:
        reset, update, new = np.split(weights[f"{name}_l{layer}"], 3)
        return np.concatenate([update, reset, new])

    return {
        f"w{layer}": gates("weight_ih")[None],
        f"r{layer}": gates("weight_hh")[None],
        f"b{layer}": np.concatenate([gates("bias_ih"), gates("bias_hh")])[None],
    }
