"""Inference: the one place where a model artifact becomes numbers. ONNX Runtime and numpy, nothing else."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.alpha.calibration import Calibration, Floats
from tickless.errors import ArtifactError

FEATURES_KEY = "features"
"""The artifact's metadata property that names its inputs, joined by commas."""
REQUIRED = ("model", "version", "sha256", "features", "horizon_h", "label")
"""What inference reads of a manifest."""
OUTPUTS = ("value", "probability", "score")
_MANY_ROWS = 4096
"""From so many rows on a second thread is worth its start; a tick has far fewer."""
_THREADS = 2


def artifact_sha256(artifact: bytes) -> str:
    """The name under which an artifact is known: its SHA-256 in hex."""
    return hashlib.sha256(artifact).hexdigest()


def manifest_field(manifest: Mapping[str, Any], key: str) -> Any:
    """One field of a manifest; raises ArtifactError where it is missing."""
    if key not in manifest:
        raise ArtifactError(f"model {manifest.get('model', '?')}@{manifest.get('version', '?')}: the manifest lacks {key!r}")
    return manifest[key]


@dataclass(frozen=True)
class OnnxModel:
    """A loaded model: float32 features (R, F), or sequences of them (R, L, F), in; one float64 number a row out.

    What the number is, ``output`` says: a ``value`` in the unit of the label, a ``probability``, or a ``score`` that only ranks. A
    probability is calibrated as the manifest says.
    """

    name: str
    version: str
    sha256: str
    features: tuple[str, ...]
    horizon_h: float
    output: str
    sequence_bars: int
    """L, the rows of features that one forecast needs; 0 = one row, no sequence."""
    calibration: Calibration
    """What the artifact's probabilities go through before anybody sees them."""
    manifest: Mapping[str, Any] = field(repr=False, compare=False)
    _session: Any = field(repr=False, compare=False)

    @classmethod
    def from_bytes(cls, artifact: bytes, manifest: Mapping[str, Any]) -> OnnxModel:
        """Load an artifact and check it against its manifest: sha256, shape of the input and feature names.

        A manifest without ``output``, ``sequence_bars`` or ``calibration`` is that of a value from single rows, as it is. Raises
        ArtifactError for a missing field, a wrong hash, bytes that are no model, a calibration of something that is no probability, or
        inputs and outputs that differ.
        """
        values = {key: manifest_field(manifest, key) for key in REQUIRED}
        who = f"model {values['model']}@{values['version']}"
        found = artifact_sha256(artifact)
        if found != values["sha256"]:
            raise ArtifactError(f"{who}: the artifact's sha256 is {found}, the manifest says {values['sha256']}")
        features, horizon_h = _stated(values, who)
        output, bars = str(manifest.get("output", "value")), manifest.get("sequence_bars", 0)
        if output not in OUTPUTS or not isinstance(bars, int) or bars < 0:
            raise ArtifactError(f"{who}: the manifest's output {output!r} or sequence_bars {bars!r} is none that a model has")
        calibration = Calibration.from_json(manifest["calibration"]) if manifest.get("calibration") else Calibration()
        if calibration.method != "none" and output != "probability":
            raise ArtifactError(f"{who}: the manifest calibrates a {output}, and only a probability can be calibrated")
        session = _open_session(artifact, who)
        _check_inputs(session, features, bars, who)
        return cls(
            name=str(values["model"]),
            version=str(values["version"]),
            sha256=found,
            features=features,
            horizon_h=horizon_h,
            output=output,
            sequence_bars=bars,
            calibration=calibration,
            manifest=manifest,
            _session=session,
        )

    @property
    def label(self) -> str:
        """``name@version``, for traces."""
        return f"{self.name}@{self.version}"

    def require_features(self, names: Sequence[str]) -> None:
        """Refuse inputs that are not this model's: raises ArtifactError unless ``names`` equal its features, in order."""
        if tuple(names) != self.features:
            raise ArtifactError(f"model {self.label}: wants features {', '.join(self.features)}; got {', '.join(names)}")

    def predict(self, x: NDArray[np.floating[Any]]) -> Floats:
        """One prediction a row, float64 (R,); see ``output`` for what it is.

        ``x`` has shape (R, F), or (R, L, F) with the oldest bar first for a model of sequences; columns in the order of ``features``. A row
        with a NaN or an infinity gives NaN and never reaches the model. Raises ArtifactError for another shape.
        """
        expected = (self.sequence_bars, len(self.features)) if self.sequence_bars else (len(self.features),)
        if x.shape[1:] != expected or x.ndim < 2:
            wanted = ", ".join(map(str, ("rows", *expected)))
            raise ArtifactError(f"model {self.label}: input has shape {x.shape}, expected ({wanted})")
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(x, dtype=np.float32)
        usable = np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
        result = np.full(len(rows), np.nan)
        if usable.any():
            result[usable] = self.calibration.apply(self._run(rows[usable]).astype(np.float64))
        return result

    def _run(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The session's output, (R,). Each thread of ours runs the session's one thread, so a row's sum never changes its order."""
        if len(rows) < _MANY_ROWS:
            return self._run_part(rows)
        with ThreadPoolExecutor(_THREADS) as pool:
            return np.concatenate(list(pool.map(self._run_part, np.array_split(rows, _THREADS))))

    def _run_part(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            (out,) = self._session.run(None, {self._session.get_inputs()[0].name: rows})
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise ArtifactError(f"model {self.label}: the artifact cannot be run on {len(rows)} rows: {error}") from error
        flat: NDArray[np.float32] = out.reshape(-1)
        if len(flat) != len(rows):
            raise ArtifactError(f"model {self.label}: the artifact gives {len(flat)} values for {len(rows)} rows")
        return flat


def _stated(values: Mapping[str, Any], who: str) -> tuple[tuple[str, ...], float]:
    """The features and the horizon that a manifest states."""
    features, hours = values["features"], values["horizon_h"]
    if not isinstance(features, list | tuple):
        raise ArtifactError(f"{who}: the manifest's features are {features!r}, no list of names")
    if not isinstance(hours, int | float) or not 0.0 < hours < math.inf:
        raise ArtifactError(f"{who}: the manifest's horizon_h is {hours!r}, no time that a model can look ahead")
    return tuple(str(name) for name in features), float(hours)


def _open_session(artifact: bytes, who: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread: a tick's rows are few, and sums in a fixed order give the same bits everywhere.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise ArtifactError(f"{who}: the artifact is not a model that ONNX Runtime can load: {error}") from error


def _check_inputs(session: Any, features: tuple[str, ...], bars: int, who: str) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    expected = [bars, len(features)] if bars else [len(features)]
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or inputs[0].shape[1:] != expected:
        shapes = ", ".join(f"{item.type}{item.shape}" for item in inputs)
        wanted = f"{len(features)} features" + (f" of {bars} bars" if bars else "")
        raise ArtifactError(f"{who}: the artifact takes {shapes}, the manifest names {wanted}")
    if len(outputs) != 1 or outputs[0].type != "tensor(float)" or outputs[0].shape[1:] != [1]:
        shapes = ", ".join(f"{item.type}{item.shape}" for item in outputs)
        raise ArtifactError(f"{who}: the artifact gives {shapes}, and a model gives one float a row")
    stated = session.get_modelmeta().custom_metadata_map.get(FEATURES_KEY, "")
    if stated != ",".join(features):
        raise ArtifactError(f"{who}: the artifact was trained on {stated or 'unnamed features'}, the manifest says {', '.join(features)}")
