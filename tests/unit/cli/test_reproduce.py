"""``tickless models reproduce``: a version is made again from the registry's manifest and a folder of bars."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tickless.adapters.bar_files import write_folder
from tickless.adapters.folder_models import FolderModelStore
from tickless.adapters.synthetic_market import make_market
from tickless.bars import Panel

NAME, VERSION = "rotation_6h", "20240520T0000Z"
LABEL = f"{NAME}@{VERSION}"
OPTIONS = ("--set", "training.num_threads=1", "--set", "training.sample_every_min=30", "--set", "execution.taker_fee_bps=3")


@pytest.fixture(scope="module")
def made() -> Panel:
    start, end = datetime(2024, 4, 15, tzinfo=UTC), datetime(2024, 5, 25, tzinfo=UTC)
    return make_market(pairs=12, start=start, end=end, seed=5, signal_ic=0.2, events=False).panel


@pytest.fixture(scope="module")
def bars(made: Panel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bars")
    write_folder(folder, made)
    return folder


@pytest.fixture(scope="module")
def trained(tickless: Any, bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("kept") / "models"
    tickless("train", "--model", NAME, "--data", bars, "--timerange", "20240420-20240520", "--models", models, *OPTIONS)
    return models


@pytest.fixture
def models(trained: Path, tmp_path: Path) -> Path:
    """A copy, to spoil."""
    return Path(shutil.copytree(trained, tmp_path / "models"))


def rewrite(models: Path, change: Any) -> None:
    path = models / NAME / VERSION / "manifest.json"
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_text(json.dumps(manifest), "utf8")


def test_the_same_version_comes_of_manifest_and_bars(tickless: Any, bars: Path, trained: Path) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    found = tickless.json("models", "reproduce", LABEL, "--data", bars, "--models", trained)
    manifest = FolderModelStore(trained).manifest(NAME, VERSION).manifest
    assert found == {
        "model": LABEL,
        "same": True,
        "sha256": manifest["sha256"],
        "registered_sha256": manifest["sha256"],
        "differences": [],
        "made_with": [],
    }
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before, "the registry is only read"


def test_a_manifest_that_has_been_changed_is_found_out(tickless: Any, bars: Path, models: Path) -> None:
    rewrite(models, lambda manifest: manifest["measures"].update(rank_ic=0.9))
    said = tickless("models", "reproduce", LABEL, "--data", bars, "--models", models, code=1).stdout
    assert said == f"{LABEL}: the same artifact; the manifests differ in measures.rank_ic\n"
    rewrite(models, lambda manifest: manifest["desk"]["training"].update(seed=1))
    said = tickless("models", "reproduce", LABEL, "--data", bars, "--models", models, code=1).stdout
    assert said.startswith(f"{LABEL}: another artifact (sha256 ")
    assert "seed" in said


def test_other_bars_are_refused(tickless: Any, made: Panel, models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    write_folder(folder, made.select(made.pairs[:-1]))
    sentence = tickless.refused("models", "reproduce", LABEL, "--data", folder, "--models", models)
    assert f"these are not the bars that {NAME} was made from: their sha256 is " in sentence


def test_what_cannot_be_made_again_is_said(tickless: Any, bars: Path, models: Path) -> None:
    asked = ("--data", bars, "--models", models)
    assert "name a version as rotation_6h@VERSION" in tickless.refused("models", "reproduce", NAME, *asked)
    rewrite(models, lambda manifest: manifest.update(champion=f"{NAME}@20240501T0000Z"))
    result = tickless("models", "reproduce", LABEL, *asked)
    assert f"{NAME}@20240501T0000Z, the champion it was compared with, cannot be read here" in result.stderr
    rewrite(models, lambda manifest: manifest.pop("desk"))
    sentence = tickless.refused("models", "reproduce", LABEL, *asked, code=3)
    assert sentence == f"tickless: model {LABEL}: its manifest does not say how to make it again, desk is not in it"


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        (f"{NAME}@20200101T0000Z", f"model {NAME}@20200101T0000Z: not registered; there are {VERSION}"),
        (f"nope@{VERSION}", f"model 'nope': not registered; there are {NAME}"),
    ],
    ids=["version", "model"],
)
def test_a_version_that_is_not_registered_is_bad_input(tickless: Any, bars: Path, trained: Path, label: str, sentence: str) -> None:
    assert sentence in tickless.refused("models", "reproduce", label, "--data", bars, "--models", trained)


def test_the_card_names_the_bars_that_it_takes(tickless: Any, trained: Path) -> None:
    card = tickless("models", "card", LABEL, "--models", trained).stdout
    bars = FolderModelStore(trained).manifest(NAME, VERSION).manifest["bars"]
    assert f"- Bars: {bars['from']} to {bars['until']}, 15m\n" in card
    assert f"- Samples: {FolderModelStore(trained).manifest(NAME, VERSION).manifest['data_from']} to " in card
