"""SageMaker's container contract: the same entry point called here, as a process of its own, and under SageMaker's own toolkit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_world import T0
from tickless.adapters.synthetic_market import make_market
from tickless.errors import ArtifactError, DataError
from tickless.learn import training_job
from tickless.learn.scope import Scope
from tickless.learn.second_opinion import check_version
from tickless.learn.spec import ModelSpec, load_specs
from tickless.learn.training_files import Job, bars_bytes, job_bytes, manifest_bytes, read_bars, read_job
from tickless.learn.training_job import STOPPED, main, run_job, train_job
from tickless.settings import load_desk

ROOT = Path(__file__).resolve().parents[3]
TRAIN_PY = ROOT / "images" / "training" / "train.py"
LONGEST_S = 120
Runner = Callable[[Path], int]


@pytest.fixture(scope="module")
def panel():
    return make_market(start=T0 - timedelta(days=30), end=T0, pairs=16, seed=5, signal_ic=0.2, events=False).panel


@pytest.fixture(scope="module")
def job(panel):
    settings = load_desk("rotation", ["training.window_days=20", "training.min_window_days=10", "training.num_threads=1"])
    return Job(
        spec=load_specs("rotation")[0],
        training=settings.training,
        execution=settings.execution,
        top_k=4,
        scope=Scope.of(settings),
        as_of=T0,
        effective_at=T0 + timedelta(minutes=20),
        bars_sha256=sha256(bars_bytes(panel)).hexdigest(),
    )


@pytest.fixture(scope="module")
def expected(job, panel):
    """What the training gives when it is called as a function."""
    (model,) = train_job(job, panel).trained
    return model


def lay_out(root: Path, job: Job, bars: bytes) -> Path:
    """A container's folders."""
    for name in ("model", "output"):
        (root / name).mkdir(parents=True)
    content = job_bytes(job)
    files = {
        "config/hyperparameters.json": json.dumps({"model": job.spec.name, "job_sha256": sha256(content).hexdigest()}).encode(),
        "data/job/job.json": content,
        "data/bars/panel.npz": bars,
    }
    if job.champion is not None:
        files["data/job/champion.onnx"] = job.champion[1]
    for name, body in files.items():
        (root / "input" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "input" / name).write_bytes(body)
    return root


@pytest.fixture
def folder(tmp_path, job, panel):
    return lay_out(tmp_path / "ml", job, bars_bytes(panel))


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    search = os.pathsep.join([str(ROOT / "shared"), *filter(None, [more.pop("PYTHONPATH", ""), os.environ.get("PYTHONPATH", "")])])
    return kept | {"PYTHONPATH": search} | more


def as_container(root: Path) -> int:
    """As the image's ENTRYPOINT with SageMaker's ``train``."""
    command = [sys.executable, str(TRAIN_PY), "train"]
    return subprocess.run(command, env=environment(SAGEMAKER_BASE_DIR=str(root)), check=False, timeout=LONGEST_S).returncode


def as_module(root: Path) -> int:
    command = [sys.executable, "-m", "tickless.learn.training_job", "--root", str(root)]
    return subprocess.run(command, env=environment(), check=False, timeout=LONGEST_S).returncode


def under_toolkit(root: Path) -> int:
    """As SageMaker's own images do: their toolkit reads the folders and runs our script."""
    (root / "code").mkdir(exist_ok=True)
    (root / "code" / "train.py").write_bytes(TRAIN_PY.read_bytes())
    config = root / "input" / "config"
    (config / "resourceconfig.json").write_text('{"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"}')
    channel = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    (config / "inputdataconfig.json").write_text(json.dumps({"bars": channel, "job": channel}))
    variables = {
        "SAGEMAKER_BASE_DIR": str(root),
        "SAGEMAKER_PROGRAM": "train.py",
        "SM_STUDIO_LOCAL_MODE": "true",
        "AWS_REGION": "us-east-1",
        "PYTHONPATH": str(ROOT / ".sagemaker"),
    }
    command = [sys.executable, "-c", "from sagemaker_training.cli.train import main; main()"]
    return subprocess.run(command, env=environment(**variables), check=False, timeout=LONGEST_S).returncode


@pytest.fixture
def toolkit() -> Runner:
    """Runs a folder under SageMaker's training toolkit."""
    return under_toolkit


def check_result(root: Path, expected: Any) -> None:
    found = sorted(path.name for path in (root / "model").iterdir())
    assert found == ["artifact.onnx", "manifest.json"]
    assert (root / "model" / "artifact.onnx").read_bytes() == expected.artifact
    assert (root / "model" / "manifest.json").read_bytes() == manifest_bytes(expected.manifest)
    assert not (root / "output" / "failure").exists()


@pytest.mark.parametrize("run", [run_job, as_container, as_module])
def test_the_same_folders_give_the_same_bytes_wherever_they_are_trained(run, folder, expected):
    assert run(folder) == 0
    check_result(folder, expected)


def test_sagemaker_s_own_toolkit_gets_the_same_bytes_too(toolkit, folder, expected):
    assert toolkit(folder) == 0
    check_result(folder, expected)
    assert (folder / "output" / "success").exists()


def test_under_the_toolkit_a_failure_is_ours(toolkit, folder):
    (folder / "input" / "data" / "bars" / "panel.npz").write_bytes(b"no bars")
    assert toolkit(folder) == 1
    assert (folder / "output" / "failure").read_text().startswith("DataError: panel.npz: its sha256 is ")
    assert list((folder / "model").iterdir()) == []


def test_a_champion_travels_with_the_job_and_is_beaten_or_not(tmp_path, job, panel, expected):
    challenged = replace(job, champion=(expected.manifest, expected.artifact))
    root = lay_out(tmp_path, challenged, bars_bytes(panel))
    assert run_job(root) == 0
    manifest = json.loads((root / "model" / "manifest.json").read_bytes())
    assert manifest["champion"] == f"{expected.name}@{expected.version}"
    assert manifest["sha256"] == expected.manifest["sha256"]


def test_too_few_bars_are_a_result(tmp_path, job, panel):
    short = replace(job, training=job.training.model_copy(update={"min_window_days": 14, "window_days": 14}), as_of=T0 - timedelta(days=24))
    root = lay_out(tmp_path, short, bars_bytes(panel))
    assert run_job(root) == 0
    assert [path.name for path in (root / "model").iterdir()] == ["skipped.json"]
    assert json.loads((root / "model" / "skipped.json").read_bytes())["skipped"].startswith("nothing trained, because ")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("data/bars/panel.npz", None, "cannot be read"),
        ("data/bars/panel.npz", b"PK not bars", "panel.npz: its sha256 is "),
        ("data/job/job.json", b"{}", "hyperparameters.json: job_sha256 is "),
        ("config/hyperparameters.json", b'{"job_sha256": "x"}', "hyperparameters.json: job_sha256 is 'x'"),
        ("config/hyperparameters.json", b"not json", "JSONDecodeError"),
    ],
)
def test_what_is_missing_or_another_job_s_fails_with_a_sentence_and_leaves_no_model(folder, name, content, says, capsys):
    path = folder / "input" / name
    path.unlink() if content is None else path.write_bytes(content)
    assert run_job(folder) == 1
    failure = (folder / "output" / "failure").read_text()
    assert says in failure
    assert len(failure) <= 1024
    assert failure in capsys.readouterr().err
    assert not list((folder / "model").glob("*"))


def test_an_error_while_the_model_is_written_leaves_no_half(folder, monkeypatch):
    def manifest_bytes(_manifest: Any) -> bytes:
        return b"{}"

    original = Path.write_bytes

    def write_bytes(path: Path, content: bytes) -> int:
        if path.name == "manifest.json":
            raise OSError("no space left on device")
        return original(path, content)

    monkeypatch.setattr(training_job, "manifest_bytes", manifest_bytes)
    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    assert run_job(folder) == 1
    assert list((folder / "model").iterdir()) == []
    assert (folder / "output" / "failure").read_text() == "OSError: no space left on device"


def test_sigterm_stops_a_training_and_leaves_nothing_but_the_reason(folder):
    command = [sys.executable, "-c", SLOW, "--root", str(folder), "train"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONGEST_S) == STOPPED == 143
    assert list((folder / "model").iterdir()) == []
    assert (folder / "output" / "failure").read_text() == "Stopped: by SIGTERM, before the training was done"


SLOW = """
import sys
from tickless.learn import training_job
from tickless.learn.algorithms import trees

def never_done(*args, **kwargs):
    print("training", flush=True)
    while True:
        pass

training_job.train_job = never_done
sys.exit(training_job.main())
"""


def test_main_gives_the_handler_of_sigterm_back(folder, expected):
    before = signal.getsignal(signal.SIGTERM)
    assert main(["--root", str(folder), "train", "--model", "rotation_6h"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    check_result(folder, expected)


# What travels


def test_bars_come_back_bit_for_bit_and_weigh_the_same_twice(panel):
    content = bars_bytes(panel)
    assert content == bars_bytes(panel)
    back = read_bars(content, sha256(content).hexdigest())
    assert (back.timeframe, back.pairs, back.start_ms) == (panel.timeframe, panel.pairs, panel.start_ms)
    for name in ("open", "high", "low", "close", "volume"):
        assert getattr(back, name).tobytes() == getattr(panel, name).tobytes()
        assert getattr(back, name).flags.c_contiguous


def test_a_pickle_among_the_bars_is_not_opened(tmp_path):
    path = tmp_path / "panel.npz"
    np.savez(path, about=np.array([{"timeframe": "15m"}], dtype=object))
    content = path.read_bytes()
    with pytest.raises(DataError, match=r"panel\.npz: cannot be read"):
        read_bars(content, sha256(content).hexdigest())


def test_a_job_comes_back_equal(job, expected):
    assert read_job(job_bytes(job), None) == job
    challenged = replace(job, champion=(expected.manifest, expected.artifact))
    back = read_job(job_bytes(challenged), expected.artifact)
    assert back == replace(challenged, champion=(json.loads(json.dumps(expected.manifest)), expected.artifact))
    with pytest.raises(DataError, match="must be given together"):
        read_job(job_bytes(challenged), None)


@pytest.mark.parametrize(
    ("key", "value"), [("format", 1), ("scope", {}), ("as_of", "now"), ("top_k", None), ("spec", {}), ("training", {"seed": -1})]
)
def test_a_job_that_is_wrong_is_refused(job, key, value):
    content = json.loads(job_bytes(job)) | {key: value}
    with pytest.raises(DataError, match=r"job\.json"):
        read_job(json.dumps(content).encode(), None)


# What came back is not believed


CLASSIFIERS = ("logistic", "lightgbm_classification")


def of_classes(job: Job, algorithm: str) -> Job:
    """The job for a classifier, calibrated as classifiers are where nothing else is said."""
    fields = {"name": "odds_6h", "strategy": "rotation", "features": "rotation", "horizon_h": 6.0, "window": {"min_rows": 100}}
    return replace(job, spec=ModelSpec.model_validate({**fields, "algorithm": algorithm, "label": {"kind": "gain"}}))


@pytest.fixture(scope="module")
def classifier(job, panel):
    """A trained classifier with its job, by algorithm."""
    made = {}

    def make(algorithm: str):
        if algorithm not in made:
            asked = of_classes(job, algorithm)
            (model,) = train_job(asked, panel).trained
            made[algorithm] = asked, model
        return made[algorithm]

    return make


def test_the_desk_finds_what_an_honest_manifest_says(job, panel, expected):
    gate = check_version(job, panel, expected.manifest, expected.artifact)
    assert gate == expected.gate


@pytest.mark.parametrize("algorithm", CLASSIFIERS)
def test_and_of_a_calibrated_classifier(algorithm, panel, classifier):
    asked, model = classifier(algorithm)
    assert set(model.manifest["data_sha256"]) == {"fit", "calibration", "validation"}
    assert model.manifest["calibration"]["method"] == "platt"
    assert check_version(asked, panel, json.loads(manifest_bytes(model.manifest)), model.artifact) == model.gate


def test_and_beside_a_champion(job, panel, expected):
    challenged = replace(job, champion=(expected.manifest, expected.artifact))
    (model,) = train_job(challenged, panel).trained
    assert check_version(challenged, panel, model.manifest, model.artifact) == model.gate
    with pytest.raises(ArtifactError, match=r"champion is 'rotation_6h@20240601T0000Z' in the manifest, and None when the desk looks"):
        check_version(job, panel, model.manifest, model.artifact)


def told(manifest: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The manifest as one says it who has changed it in one place; ``DROPPED``: without that."""
    lie = json.loads(manifest_bytes(manifest))
    *parents, last = path
    where = lie
    for key in parents:
        where = where[key]
    if value is DROPPED:
        del where[last]
    else:
        where[last] = value
    return lie


DROPPED = object()
LIES: list[tuple[tuple[Any, ...], Any, str]] = [
    (("version",), "20300101T0000Z", "version is '20300101T0000Z' in the manifest"),
    (("spec", "horizon_h"), 1.0, "spec.horizon_h is 1.0 in the manifest, and 6.0 when the desk looks"),
    (("effective_at",), "2020-01-01T00:00:00Z", "effective_at is"),
    (("sha256",), "0" * 64, "sha256 is '000"),
    (("horizon_h",), 48.0, "horizon_h is 48.0 in the manifest, and 6.0 when the desk looks"),
    (("horizon_h",), 6.0001, "horizon_h is 6.0001"),
    (("label",), "forward_return", "label is"),
    (("relative",), False, "relative is False"),
    (("relative",), 1, "relative is 1"),
    (("strategy",), "x", "strategy is"),
    (("seed",), 1, "seed is"),
    (("fit_until",), "2020-01-01T00:00:00Z", "fit_until is"),
    (("label_until",), "2020-01-01T00:00:00Z", "label_until is"),
    (("data_until",), "2030-01-01T00:00:00Z", "data_until is"),
    (("data_sha256", "fit"), "0" * 64, "data_sha256.fit is"),
    (("data_sha256", "calibration"), "0" * 64, "data_sha256.calibration is '000"),
    (("bars", "pairs"), ["BTC/USDT"], "bars.pairs is"),
    (("bars", "sha256"), "0" * 64, "bars.sha256 is"),
    (("desk", "execution", "taker_fee_bps"), 0.0, "desk.execution.taker_fee_bps is 0.0"),
    (("terms", "sample_every_min"), 15, "terms.sample_every_min is 15"),
    (("rows", "validation"), 10**6, "rows.validation is"),
    (("features", 0), "r_9h", "features[0] is"),
    (("sequence_bars",), 60, "sequence_bars is"),
    (("startup", "bars"), 0, "startup.bars is"),
    (("measures", "rank_ic"), 0.9, "measures.rank_ic is 0.9 in the manifest"),
    (("gate", "promote"), "yes", "gate.promote is"),
    (("gate", "reasons"), ["best ever"], "gate.reasons is"),
    (("gate", "reasons", 1), "mean rank IC 0.99999 is above 0.00000, the limit", "gate.reasons[1] is"),
    (("baseline", "beaten"), None, "baseline.beaten is None"),
    (("baseline", "measures", "rank_ic"), -1.0, "baseline.measures.rank_ic is"),
    (("calibration",), {"method": "platt", "x": [1.0, 0.0], "y": []}, "calibration is"),
    (("drift_reference",), None, "drift_reference is None"),
    (("drift_reference", "until_ms"), 0, "drift_reference."),
    (("leak_checks",), {}, "leak_checks."),
    (("worth",), {"slope": 9.0, "intercept": 0.0}, "worth.slope is 9.0"),
    (("rounds",), 10**6, "rounds is 1000000 in the manifest, and must be a whole number from 0 to"),
    (("export_difference",), 1.0, "export_difference is 1.0 in the manifest, and must be a number from 0 to 1e-05"),
    (("libraries",), {}, "libraries is {} in the manifest, and must be one entry each of lightgbm, numpy, onnx, onnxruntime"),
    (("libraries", "numpy"), "2.0 <script>", "libraries.numpy is"),
    (("platform",), DROPPED, "platform is None"),
    (("platform", "python"), 3, "platform.python is 3"),
    (("terms",), DROPPED, "terms is missing in the manifest"),
    (("praise",), "none better", "praise is 'none better' in the manifest, and missing when the desk looks"),
]


@pytest.mark.parametrize(("path", "value", "says"), LIES, ids=[f"{n}-{'-'.join(map(str, lie[0]))}" for n, lie in enumerate(LIES)])
def test_a_manifest_that_says_anything_else_is_refused(job, panel, expected, path, value, says):
    with pytest.raises(ArtifactError) as refusal:
        check_version(job, panel, told(expected.manifest, path, value), expected.artifact)
    assert f"model rotation_6h@20240601T0000Z: {says}" in str(refusal.value)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("worth",), {"slope": "steep"}, "worth is {'slope': 'steep'} in the manifest, and must be a slope and an intercept"),
        (("worth", "slope"), -0.1, "and must be a line that does not fall"),
        (("worth", "slope"), 1e9, "when the desk looks"),
        (("calibration", "x"), [5.0, 0.0], "calibration.x[0] is 5.0"),
        (("calibration", "rows"), 3, "calibration.rows is 3"),
        (("class_measures", "log_loss"), 0.1, "class_measures.log_loss is 0.1"),
    ],
    ids=["worth is a word", "worth falls", "worth is steep", "calibration", "calibration's rows", "log loss"],
)
def test_nor_is_a_classifier_s_word_taken(panel, classifier, path, value, says):
    asked, model = classifier("logistic")
    with pytest.raises(ArtifactError) as refusal:
        check_version(asked, panel, told(model.manifest, path, value), model.artifact)
    assert says in str(refusal.value)


def test_what_another_machine_may_say_otherwise_is_accepted(job, panel, expected):
    manifest = told(expected.manifest, ("libraries", "numpy"), "9.9.9rc1")
    manifest = told(manifest, ("platform",), {"python": "3.13.1", "machine": "aarch64", "tickless": "0.2.0"})
    manifest = told(manifest, ("measures", "rank_ic"), manifest["measures"]["rank_ic"] * (1.0 + 1e-6))
    rank_ic = expected.manifest["measures"]["rank_ic"]
    said = manifest["gate"]["reasons"][1]
    manifest = told(manifest, ("gate", "reasons", 1), said.replace(f"{rank_ic:.5f}", f"{rank_ic + 1e-5:.5f}"))
    assert manifest["gate"]["reasons"] != expected.manifest["gate"]["reasons"]
    assert check_version(job, panel, manifest, expected.artifact) == expected.gate


def test_an_artifact_of_other_features_is_refused(job, panel, expected, classifier):
    _, other = classifier("lightgbm_classification")
    with pytest.raises(ArtifactError, match=r"sha256 is '"):
        check_version(job, panel, expected.manifest, other.artifact)
    claimed = told(expected.manifest, ("sha256",), other.manifest["sha256"])
    with pytest.raises(ArtifactError, match=r"in the manifest, and .* when the desk looks"):
        check_version(job, panel, claimed, other.artifact)
