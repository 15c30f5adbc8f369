"""What every model registry promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from desk_values import BUCKET

from tickless.adapters.folder_models import FolderModelStore
from tickless.adapters.memory import MemoryModelStore
from tickless.adapters.model_registry import ModelRegistry
from tickless.adapters.object_store import FolderObjects, ObjectStore
from tickless.adapters.s3_models import S3ModelStore
from tickless.alpha.model_life import LifeChange, ModelEvent, ModelLife, Stage
from tickless.errors import ArtifactError, InputError, LedgerError
from tickless.ports import Promotion

T0 = datetime(2024, 6, 1, 2, 10, tzinfo=UTC)
ARTIFACT = b"onnx bytes"
DIGEST = sha256(ARTIFACT).hexdigest()
Put = Callable[[str, bytes], None]


@pytest.fixture(params=["memory", "folder", "s3"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> ModelRegistry:
    if kind == "memory":
        return MemoryModelStore()
    return FolderModelStore(tmp_path / "models") if kind == "folder" else S3ModelStore(BUCKET, request.getfixturevalue("s3"))


@pytest.fixture
def put(kind: str, store: ModelRegistry, request: pytest.FixtureRequest, tmp_path: Path) -> Put:
    """Overwrites an object behind the registry's back."""

    def overwrite(key: str, content: bytes) -> None:
        if isinstance(store, MemoryModelStore):
            store.objects.contents[key] = content
        elif kind == "folder":
            path = tmp_path / "models" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        else:
            request.getfixturevalue("s3").put_object(Bucket=BUCKET, Key=f"models/{key}", Body=content)

    return overwrite


def a_promotion(version: str = "v1", hours: float = 0) -> Promotion:
    moment = T0 + timedelta(hours=hours)
    return Promotion(version, moment + timedelta(minutes=20), moment, "better rank IC")


def test_an_empty_registry(store: ModelRegistry) -> None:
    assert store.names() == []
    assert store.versions("lgbm_6h") == []
    assert store.promotions("lgbm_6h") == ()
    with pytest.raises(ArtifactError, match="lgbm_6h@v1: no manifest"):
        store.manifest("lgbm_6h", "v1")


def test_a_registered_version_is_found(store: ModelRegistry) -> None:
    registered = store.register("lgbm_6h", "v1", {"horizon_h": 6, "rank_ic": 0.1 + 0.2}, ARTIFACT)
    assert registered.label == "lgbm_6h@v1"
    assert registered.manifest == {"horizon_h": 6, "rank_ic": 0.1 + 0.2, "sha256": DIGEST}
    assert store.manifest("lgbm_6h", "v1") == registered
    assert store.artifact(registered) == ARTIFACT
    assert store.names() == ["lgbm_6h"]


def test_versions_come_oldest_first(store: ModelRegistry) -> None:
    for version, effective_at in (("b", "2024-06-02T00:00:00Z"), ("a", "2024-06-03T00:00:00Z"), ("c", "2024-06-01T00:00:00Z")):
        store.register("lgbm_6h", version, {"effective_at": effective_at}, ARTIFACT)
    store.register("lgbm_24h", "a", {}, ARTIFACT)
    assert [version.version for version in store.versions("lgbm_6h")] == ["c", "b", "a"]
    assert store.names() == ["lgbm_24h", "lgbm_6h"]


def test_versions_are_immutable(store: ModelRegistry) -> None:
    first = store.register("lgbm_6h", "v1", {"rank_ic": 0.05}, ARTIFACT)
    assert store.register("lgbm_6h", "v1", {"rank_ic": 0.05, "sha256": DIGEST}, ARTIFACT) == first
    with pytest.raises(ArtifactError, match="lgbm_6h@v1: registered before with another manifest"):
        store.register("lgbm_6h", "v1", {"rank_ic": 0.06}, ARTIFACT)
    with pytest.raises(ArtifactError, match="lgbm_6h@v1: registered before with another artifact"):
        store.register("lgbm_6h", "v1", {"rank_ic": 0.05}, b"other")
    assert store.artifact(store.manifest("lgbm_6h", "v1")) == ARTIFACT


def test_a_registration_that_died_half_way_left_no_version(store: ModelRegistry, put: Put) -> None:
    put("lgbm_6h/v1/artifact.onnx", b"half")
    assert store.names() == []
    assert store.versions("lgbm_6h") == []
    store.register("lgbm_6h", "v1", {}, ARTIFACT)
    assert store.artifact(store.manifest("lgbm_6h", "v1")) == ARTIFACT


def test_one_damaged_byte_is_refused(store: ModelRegistry, put: Put) -> None:
    version = store.register("lgbm_6h", "v1", {}, ARTIFACT)
    damaged = b"onnx bytez"
    put("lgbm_6h/v1/artifact.onnx", damaged)
    with pytest.raises(ArtifactError) as caught:
        store.artifact(version)
    for part in ("lgbm_6h@v1", DIGEST[:12], sha256(damaged).hexdigest()[:12]):
        assert part in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"sha256": 3}', b"\xff"])
def test_a_manifest_that_cannot_be_read_is_refused(store: ModelRegistry, put: Put, content: bytes) -> None:
    put("lgbm_6h/v1/manifest.json", content)
    with pytest.raises(ArtifactError, match=r"lgbm_6h@v1: manifest\.json"):
        store.manifest("lgbm_6h", "v1")


def test_a_missing_artifact_is_refused(store: ModelRegistry, put: Put) -> None:
    put("lgbm_6h/v1/manifest.json", json.dumps({"sha256": DIGEST}).encode())
    with pytest.raises(ArtifactError, match="lgbm_6h@v1: no artifact"):
        store.artifact(store.manifest("lgbm_6h", "v1"))


def test_a_manifest_for_another_artifact_is_not_registered(store: ModelRegistry) -> None:
    with pytest.raises(ArtifactError, match=DIGEST[:12]):
        store.register("lgbm_6h", "v1", {"sha256": "0" * 64}, ARTIFACT)
    with pytest.raises(ArtifactError, match="cannot be written as JSON"):
        store.register("lgbm_6h", "v1", {"rank_ic": float("nan")}, ARTIFACT)
    assert store.names() == []


def test_promotions_are_appended(store: ModelRegistry) -> None:
    for version in ("v1", "v2"):
        store.register("lgbm_6h", version, {}, ARTIFACT)
    history = (a_promotion("v1"), a_promotion("v2", 24), a_promotion("v1", 48))
    for promotion in history:
        store.promote("lgbm_6h", promotion)
        store.promote("lgbm_6h", promotion)
    assert store.promotions("lgbm_6h") == history


def test_only_what_is_registered_is_promoted(store: ModelRegistry) -> None:
    with pytest.raises(ArtifactError, match="lgbm_6h@v1"):
        store.promote("lgbm_6h", a_promotion())
    assert store.promotions("lgbm_6h") == ()


@pytest.mark.parametrize("before", [(), ("v1",)])
def test_of_two_promotions_at_once_one_is_refused(store: ModelRegistry, before: tuple[str, ...]) -> None:
    for version in ("v1", "v2", "v3"):
        store.register("lgbm_6h", version, {}, ARTIFACT)
    for version in before:
        store.promote("lgbm_6h", a_promotion(version))
    rival = ModelRegistry(store._objects)
    seen = rival._champion("lgbm_6h")
    rival._champion = lambda name: seen  # type: ignore[method-assign]
    store.promote("lgbm_6h", a_promotion("v2", 1))
    with pytest.raises(LedgerError, match="v3 was not promoted"):
        rival.promote("lgbm_6h", a_promotion("v3", 1))
    assert [promotion.version for promotion in store.promotions("lgbm_6h")] == [*before, "v2"]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"promotions": [{"version": "v1"}]}', b'{"promotions": 3}', b'{"promotions": ["v1"]}'])
def test_a_pointer_that_cannot_be_read_is_refused(store: ModelRegistry, put: Put, content: bytes) -> None:
    put("lgbm_6h/champion.json", content)
    with pytest.raises(ArtifactError, match=r"lgbm_6h: champion\.json"):
        store.promotions("lgbm_6h")


@pytest.mark.parametrize(
    ("name", "version"), [("../etc", "v1"), ("lgbm", ".."), ("lgbm:6h", "v1"), ("lgbm", "v 1"), ("", "v1"), ("lgbm", "a/b")]
)
def test_names_that_are_no_names_are_refused(store: ModelRegistry, name: str, version: str) -> None:
    with pytest.raises(ArtifactError, match="only letters"):
        store.register(name, version, {}, ARTIFACT)


def test_a_folder_holds_no_parts_of_files(tmp_path: Path) -> None:
    store = FolderModelStore(tmp_path)
    store.register("lgbm_6h", "v1", {}, ARTIFACT)
    store.promote("lgbm_6h", a_promotion())
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock")
    assert files == ["lgbm_6h/champion.json", "lgbm_6h/v1/artifact.onnx", "lgbm_6h/v1/card.md", "lgbm_6h/v1/manifest.json"]


def test_a_folder_that_failed_to_write_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderModelStore(tmp_path)
    store.register("lgbm_6h", "v1", {}, ARTIFACT)

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match=r"champion.json: cannot be written \(No space left"):
        store.promote("lgbm_6h", a_promotion())
    assert store.promotions("lgbm_6h") == ()
    assert list(tmp_path.rglob("*.part")) == []


def an_event(version: str, stage: Stage = "shadow", hours: float = 0, **more: Any) -> ModelEvent:
    return ModelEvent(version, stage, T0 + timedelta(hours=hours), "passed its gates", **more)


def test_a_life_is_written_together_and_read_back(store: ModelRegistry) -> None:
    for version in ("v1", "v2"):
        store.register("lgbm_6h", version, {}, ARTIFACT)
    first = LifeChange(
        (a_promotion("v1"),),
        (an_event("v1", "champion", size_frac=0.5, causes=("psi of a", "rolling_ic")), an_event("v2", role="challenger")),
    )
    store.record("lgbm_6h", first)
    store.record("lgbm_6h", first)
    assert store.life("lgbm_6h") == ModelLife(first.promotions, first.events)
    withdrawn = LifeChange((Promotion("", T0, T0, "it has drifted"),), (an_event("v1", "retired", 1, by="person"),))
    store.record("lgbm_6h", withdrawn)
    assert store.life("lgbm_6h") == ModelLife(first.promotions + withdrawn.promotions, first.events + withdrawn.events)
    assert store.life("lgbm_24h") == ModelLife()


def test_nothing_is_written_of_a_version_that_is_not_registered(store: ModelRegistry) -> None:
    with pytest.raises(ArtifactError, match="lgbm_6h@v1"):
        store.record("lgbm_6h", LifeChange(events=(an_event("v1"),)))
    assert store.life("lgbm_6h") == ModelLife()


def test_a_deleted_version_is_gone_with_its_events_and_the_rest_stays(store: ModelRegistry) -> None:
    for version in ("v1", "v2", "v3"):
        store.register("lgbm_6h", version, {}, ARTIFACT)
    store.record("lgbm_6h", LifeChange((a_promotion("v1"), a_promotion("v2", 1)), (an_event("v1", "retired"), an_event("v3"))))
    store.delete("lgbm_6h", ["v1"])
    store.delete("lgbm_6h", ["v1"])
    assert [version.version for version in store.versions("lgbm_6h")] == ["v2", "v3"]
    assert store.life("lgbm_6h") == ModelLife((a_promotion("v1"), a_promotion("v2", 1)), (an_event("v3"),), deleted=("v1",))
    with pytest.raises(ArtifactError, match="v1: no manifest"):
        store.manifest("lgbm_6h", "v1")


def test_a_copy_is_the_same_to_the_last_damaged_byte(store: ModelRegistry, put: Put) -> None:
    for version in ("v1", "v2"):
        store.register("m", version, {}, ARTIFACT)
    store.record("m", LifeChange((a_promotion("v1"),), (an_event("v2"),)))
    store.register("n", "v1", {}, ARTIFACT)
    for key in ("m/v2/artifact.onnx", "n/champion.json", "n/v1/manifest.json"):
        put(key, b"damaged")
    put("m/notes.txt", b"mine")
    copy, without = MemoryModelStore(), MemoryModelStore()

    store.copy_to(copy)
    store.copy_to(copy)
    store.copy_to(without, shadows=False)

    assert copy.life("m") == store.life("m")
    assert without.life("m") == ModelLife((a_promotion("v1"),))
    assert copy.artifact(copy.manifest("m", "v1")) == ARTIFACT
    with pytest.raises(ArtifactError, match="sha256"):
        copy.artifact(copy.manifest("m", "v2"))
    for target in (copy, without):
        with pytest.raises(ArtifactError, match=r"champion\.json is not JSON"):
            target.life("n")
        assert set(target.objects.contents) == set(store._objects.keys("")) - {"m/notes.txt"}
    put("m/v1/artifact.onnx", b"other")
    with pytest.raises(ArtifactError, match=r"m/v1/artifact\.onnx: is there already, with another content"):
        store.copy_to(copy)


class Meanwhile:
    """A store of objects in which somebody else does something right before the next call of one kind."""

    def __init__(self, objects: ObjectStore, call: str, action: Callable[[], object]) -> None:
        self._objects, self._call, self._action = objects, call, action

    def __getattr__(self, name: str) -> Any:
        if name == self._call:
            self._call = ""
            self._action()
        return getattr(self._objects, name)


def test_a_version_that_is_deleted_during_its_promotion_does_not_become_champion(store: ModelRegistry) -> None:
    for version in ("v1", "v2"):
        store.register("m", version, {}, ARTIFACT)
    store.promote("m", a_promotion("v2"))
    slow = ModelRegistry(Meanwhile(store._objects, "put_if", lambda: store.delete("m", ["v1"], store.life("m"))))
    with pytest.raises(LedgerError, match="v1 was not promoted"):
        slow.promote("m", a_promotion("v1", 1))
    assert [entry.version for entry in store.promotions("m")] == ["v2"]
    with pytest.raises(ArtifactError, match="m@v1"):
        store.promote("m", a_promotion("v1", 1))


def test_what_is_promoted_during_its_deletion_is_kept_whole(store: ModelRegistry) -> None:
    for version in ("v1", "v2"):
        store.register("m", version, {}, ARTIFACT)
    slow = ModelRegistry(Meanwhile(store._objects, "put_if", lambda: store.promote("m", a_promotion("v1"))))
    with pytest.raises(LedgerError, match="nothing was deleted"):
        slow.delete("m", ["v1"], store.life("m"))
    assert store.artifact(store.manifest("m", "v1")) == ARTIFACT
    with pytest.raises(LedgerError, match="nothing was deleted"):
        store.delete("m", ["v1"], ModelLife())


def test_what_is_about_to_be_deleted_cannot_be_promoted_any_more(store: ModelRegistry) -> None:
    store.register("m", "v1", {}, ARTIFACT)
    refused: list[str] = []

    def promote() -> None:
        with pytest.raises(ArtifactError, match="m@v1: was deleted") as caught:
            store.promote("m", a_promotion("v1"))
        refused.append(str(caught.value))

    ModelRegistry(Meanwhile(store._objects, "delete", promote)).delete("m", ["v1"])
    assert refused
    assert store.promotions("m") == ()


def test_a_deletion_that_died_half_way_is_finished_by_the_next(store: ModelRegistry) -> None:
    for version in ("v1", "v2"):
        store.register("m", version, {}, ARTIFACT)

    def die() -> None:
        raise OSError("no power")

    with pytest.raises(OSError, match="no power"):
        ModelRegistry(Meanwhile(store._objects, "delete", die)).delete("m", ["v1"])
    assert store.life("m").deleted == ("v1",)
    store.delete("m", ["v2"])
    assert list(store._objects.keys("m/")) == ["m/champion.json"]


def test_a_deletion_that_died_is_finished_under_the_same_protection(store: ModelRegistry) -> None:
    for version in ("v1", "v2", "v3"):
        store.register("lgbm_6h", version, {"horizon_h": 6}, ARTIFACT)
    store.promote("lgbm_6h", a_promotion("v3"))

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ModelRegistry(Meanwhile(store._objects, "delete", die)).delete("lgbm_6h", ["v1"])  # type: ignore[arg-type]

    def promote() -> None:
        with pytest.raises(ArtifactError, match="lgbm_6h@v1: was deleted"):
            store.promote("lgbm_6h", a_promotion("v1", hours=1))

    # Another night, another version to delete: the one that is left from last time must not be promoted under its hands.
    ModelRegistry(Meanwhile(store._objects, "delete", promote)).delete("lgbm_6h", ["v2"])  # type: ignore[arg-type]
    assert store.version_names("lgbm_6h") == ["v3"]
    assert [entry.version for entry in store.promotions("lgbm_6h")] == ["v3"]


def test_what_lies_beside_the_models_under_no_name_is_no_model(store: ModelRegistry, put: Put) -> None:
    store.register("lgbm_6h", "v1", {"horizon_h": 6}, ARTIFACT)
    put("with space/v1/manifest.json", b"{}")
    put("notes/manifest.json", b"{}")
    assert store.names() == ["lgbm_6h"]


def test_a_manifest_nested_without_end_is_refused(store: ModelRegistry, put: Put) -> None:
    put("lgbm_6h/v1/manifest.json", b"[" * 100_000)
    with pytest.raises(ArtifactError, match=r"lgbm_6h@v1: manifest.json is not JSON"):
        store.manifest("lgbm_6h", "v1")


def test_a_time_that_no_calendar_has_in_utc_is_refused(store: ModelRegistry, put: Put) -> None:
    row = {"version": "v1", "effective_at": "9999-12-31T23:59:59-14:00", "promoted_at": "2024-06-01T00:00:00Z", "reason": "by hand"}
    put("lgbm_6h/champion.json", json.dumps({"promotions": [row]}).encode())
    with pytest.raises(ArtifactError, match="lies outside the calendar"):
        store.life("lgbm_6h")


def test_a_folder_in_the_place_of_a_file_is_no_object_and_told_when_written_to(tmp_path: Path) -> None:
    store = FolderModelStore(tmp_path)
    store.register("lgbm_6h", "v1", {"horizon_h": 6}, ARTIFACT)
    (tmp_path / "lgbm_6h" / "champion.json").mkdir()
    assert store.promotions("lgbm_6h") == ()
    with pytest.raises(InputError, match=r"lgbm_6h/champion.json: cannot be written"):
        store.promote("lgbm_6h", a_promotion())
    (tmp_path / "lgbm_6h" / "v1" / "artifact.onnx").unlink()
    (tmp_path / "lgbm_6h" / "v1" / "artifact.onnx").mkdir()
    with pytest.raises(ArtifactError, match="lgbm_6h@v1: no artifact"):
        store.artifact(store.manifest("lgbm_6h", "v1"))


def test_a_folder_that_goes_with_its_last_file_comes_back_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the making of the folder and the writing of the file somebody else may delete what was the folder's last."""
    objects, others = FolderObjects(tmp_path), FolderObjects(tmp_path)
    objects.put_if("m/v1/card.md", b"old", None)
    honest = FolderObjects._turn

    def late(self: FolderObjects) -> Any:
        if self is objects:
            others.delete("m/v1/card.md")
        return honest(self)

    monkeypatch.setattr(FolderObjects, "_turn", late)
    assert objects.put_if("m/v1/artifact.onnx", b"new", None)
    assert objects.keys("") == ["m/v1/artifact.onnx"]


def test_a_life_that_changed_behind_the_back_is_seen(store: ModelRegistry, put: Put) -> None:
    store.register("lgbm_6h", "v1", {}, ARTIFACT)
    store.promote("lgbm_6h", a_promotion())
    assert store.life("lgbm_6h").promotions
    put("lgbm_6h/champion.json", b'{"promotions": []}')
    assert store.life("lgbm_6h") == ModelLife()


@pytest.mark.parametrize(
    "event", [{}, {"version": "v1"}, {"stage": "boss"}, {"at": "yesterday"}, {"size_frac": 0.0}, {"size_frac": 2.0}, {"size_frac": "much"}]
)
def test_an_event_that_cannot_be_read_is_refused(store: ModelRegistry, put: Put, event: dict[str, object]) -> None:
    good = {"version": "v1", "stage": "shadow", "at": "2024-06-01T00:00:00Z", "reason": "", "by": "nightly"}
    row = {**good, **event} if event and event != {"version": "v1"} else event
    put("lgbm_6h/champion.json", json.dumps({"promotions": [], "events": [row]}).encode())
    with pytest.raises(ArtifactError, match=r"lgbm_6h: champion\.json"):
        store.life("lgbm_6h")


def test_a_damaged_version_can_still_be_retired(store: ModelRegistry, put: Put) -> None:
    store.register("m", "v1", {}, ARTIFACT)
    store.record("m", LifeChange((a_promotion("v1"),), (ModelEvent("v1", "champion", T0, "first"),)))
    put("m/v1/manifest.json", b"{")
    store.record("m", LifeChange((a_promotion("", 1),), (ModelEvent("v1", "retired", T0 + timedelta(hours=1), "damaged"),)))
    assert store.life("m").champion(T0 + timedelta(hours=2)) is None


def test_a_change_that_was_decided_on_an_older_life_is_refused(store: ModelRegistry) -> None:
    for version in ("v1", "v2"):
        store.register("m", version, {}, ARTIFACT)
    seen = store.life("m")
    store.record("m", LifeChange((a_promotion("v1"),)), seen)
    with pytest.raises(LedgerError, match=r"champion\.json changed meanwhile; v2 was not promoted"):
        store.record("m", LifeChange((a_promotion("v2"),)), seen)
    store.record("m", LifeChange((a_promotion("v2"),)), store.life("m"))
    assert [entry.version for entry in store.promotions("m")] == ["v1", "v2"]


def test_a_life_written_before_there_were_events_is_read(store: ModelRegistry, put: Put) -> None:
    row = {"version": "v1", "effective_at": "2024-06-01T02:30:00Z", "promoted_at": "2024-06-01T02:10:00Z", "reason": "better"}
    put("m/champion.json", json.dumps({"promotions": [row]}).encode())
    assert store.life("m") == ModelLife((Promotion("v1", T0 + timedelta(minutes=20), T0, "better"),))
    put("m/champion.json", json.dumps({"promotions": [row | {"version": 5}]}).encode())
    with pytest.raises(ArtifactError, match="version 5 is not text"):
        store.life("m")
