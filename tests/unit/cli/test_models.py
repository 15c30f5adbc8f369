"""``tickless models list/show``: a registry in a folder, and the one in the bucket."""

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import boto3
import pytest

from tickless.adapters.folder_models import FolderModelStore
from tickless.alpha.champion import champion_at
from tickless.ports import Promotion
from tickless.types import iso, parse_time

NOW = datetime.now(UTC).replace(microsecond=0)
OLD, NEW, TRIED = "20240601T0200Z", "20240602T0200Z", "20240603T0200Z"


def manifest(version: str, effective_at: datetime, rank_ic: float) -> dict:
    measures = {"rank_ic": rank_ic, "rank_ic_t": 2.5, "top_k_net_frac": None}
    return {
        "model": "rotation_6h",
        "version": version,
        "effective_at": iso(effective_at),
        "measures": measures,
        "features": ["r_1h", "r_6h"],
    }


def fill(store) -> None:
    for days, (version, rank_ic) in enumerate([(OLD, 0.01), (NEW, 0.02), (TRIED, 0.003)]):
        at = NOW - timedelta(days=10 - days)
        store.register("rotation_6h", version, manifest(version, at, rank_ic), version.encode())
    store.promote("rotation_6h", Promotion(OLD, NOW - timedelta(days=10), NOW - timedelta(days=10), "there is no champion to beat"))
    store.promote("rotation_6h", Promotion(NEW, NOW - timedelta(days=9), NOW - timedelta(days=9), "above the champion"))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "models"
    fill(FolderModelStore(path))
    return path


def test_list_says_which_is_used(tickless, folder):
    rows = tickless.json("models", "list", "--models", folder)
    assert [(row["version"], row["stage"], row["rank_ic"]) for row in rows] == [
        (OLD, "retired", 0.01),
        (NEW, "champion", 0.02),
        (TRIED, "candidate", 0.003),
    ]
    table = tickless("models", "list", "--models", folder).stdout
    assert NEW in table
    assert "champion" in table


def test_a_promotion_that_is_not_effective_yet(tickless, folder):
    FolderModelStore(folder).promote("rotation_6h", Promotion(TRIED, NOW + timedelta(days=1), NOW, "better"))
    rows = tickless.json("models", "list", "--models", folder)
    assert {row["version"]: row["stage"] for row in rows} == {OLD: "retired", NEW: "champion", TRIED: "promoted"}


def test_show_the_champion_and_any_version(tickless, folder):
    shown = tickless.json("models", "show", "rotation_6h", "--models", folder)
    assert shown["model"] == f"rotation_6h@{NEW}"
    assert shown["artifact_bytes"] == len(NEW)
    assert shown["manifest"]["sha256"] == sha256(NEW.encode()).hexdigest()
    assert [entry["reason"] for entry in shown["promotions"]] == ["above the champion"]
    champion = tickless("models", "show", "rotation_6h", "--models", folder).stdout
    assert f"for ticks from {iso(NOW - timedelta(days=9))} on: above the champion" in champion
    table = tickless("models", "show", f"rotation_6h@{TRIED}", "--models", folder).stdout
    for words in ("measures.rank_ic", "0.003", "r_1h, r_6h", "sha256 as the manifest says"):
        assert words in table
    assert "promoted" not in table


def test_a_card_is_registered_beside_the_artifact_and_printed(tickless, folder):
    card = tickless("models", "card", f"rotation_6h@{TRIED}", "--models", folder).stdout
    assert card.startswith(f"# rotation_6h@{TRIED}\n")
    assert "| `rank_ic` | 0.00300 |" in card
    assert "| `top_k_net_frac` | cannot be told |" in card
    assert (folder / "rotation_6h" / TRIED / "card.md").read_text("utf8") == card
    assert tickless("models", "card", "rotation_6h", "--models", folder).stdout.startswith(f"# rotation_6h@{NEW}\n")


def test_show_refuses_a_damaged_artifact(tickless, folder):
    (folder / "rotation_6h" / NEW / "artifact.onnx").write_bytes(b"other")
    sentence = tickless.refused("models", "show", "rotation_6h", "--models", folder, code=3)
    assert f"model rotation_6h@{NEW}: the artifact's sha256 is" in sentence


def test_what_is_not_there(tickless, folder, tmp_path):
    assert "no such folder" in tickless.refused("models", "list", "--models", tmp_path / "none")
    assert "model 'nope': not registered; there are rotation_6h" in tickless.refused("models", "show", "nope", "--models", folder)
    store = FolderModelStore(folder)
    store.register("rotation_24h", OLD, manifest(OLD, NOW, 0.0), b"x")
    assert "model rotation_24h: has no champion" in tickless.refused("models", "show", "rotation_24h", "--models", folder)
    (tmp_path / "empty").mkdir()
    assert tickless("models", "list", "--models", tmp_path / "empty").stdout == "no model is registered\n"


def test_the_registry_of_the_deployed_desk(tickless, deployed):
    assert tickless("models", "list").stdout == "no model is registered\n"
    fill(deployed.adapters.models)
    assert [row["stage"] for row in tickless.json("models", "list")] == ["retired", "champion", "candidate"]
    for command in (("promote", f"rotation_6h@{TRIED}"), ("rollback", "rotation_6h"), ("retire", "rotation_6h")):
        sentence = tickless.refused("models", *command, "--effective-at", iso(NOW - timedelta(days=1)))
        assert "lies in the past, and a deployed desk's history stays as it was" in sentence
    assert [entry.version for entry in deployed.adapters.models.promotions("rotation_6h")] == [OLD, NEW]
    bucket = deployed.adapters.environment.bucket
    boto3.client("s3").put_object(Bucket=bucket, Key=f"models/rotation_6h/{NEW}/artifact.onnx", Body=b"damaged")
    tickless.refused("models", "show", "rotation_6h", code=3)
    tickless("models", "promote", f"rotation_6h@{TRIED}")
    assert deployed.adapters.models.life("rotation_6h").champion(datetime.now(UTC)).version == TRIED


def test_promote_makes_a_version_the_champion_whatever_its_gates_said(tickless, folder):
    given = ("--reason", "I know better", "--effective-at", "now")
    facts = tickless.json("models", "promote", f"rotation_6h@{TRIED}", "--models", folder, *given)

    assert (facts["model"], facts["reason"]) == (f"rotation_6h@{TRIED}", "I know better")
    assert parse_time(facts["effective_at"]) >= NOW, "what was decided before stays as it was"
    assert champion_at(FolderModelStore(folder).promotions("rotation_6h"), NOW - timedelta(hours=1)).version == NEW
    rows = tickless.json("models", "list", "--models", folder)
    assert {row["version"]: row["stage"] for row in rows} == {OLD: "retired", NEW: "retired", TRIED: "champion"}
    assert FolderModelStore(folder).promotions("rotation_6h")[-1].reason == "I know better"


def test_promote_in_a_folder_is_for_runs_over_the_past_unless_another_time_is_asked_for(tickless, folder):
    def promoted(*effective_at):
        facts = tickless.json("models", "promote", f"rotation_6h@{TRIED}", "--models", folder, *effective_at)
        return parse_time(facts["effective_at"])

    assert promoted() == NOW - timedelta(days=8)
    assert champion_at(FolderModelStore(folder).promotions("rotation_6h"), NOW - timedelta(days=8)).version == TRIED
    assert promoted("--effective-at", "trained") == NOW - timedelta(days=8)
    assert promoted("--effective-at", iso(NOW - timedelta(days=1))) == NOW - timedelta(days=1)
    assert promoted("--effective-at", "now") >= NOW


def test_a_champion_file_without_what_it_must_have_is_told_in_a_sentence(tickless, folder):
    (folder / "rotation_6h" / "champion.json").write_text("{}")
    sentence = tickless.refused("models", "show", "rotation_6h", "--models", folder, code=3)
    assert sentence == "tickless: model rotation_6h: champion.json cannot be read: 'promotions' is missing"


def test_what_is_not_registered_is_bad_input(tickless, folder):
    store = FolderModelStore(folder)
    store.register("rotation_24h", OLD, manifest(OLD, NOW, 0.5), b"x")
    for command in ("show", "card", "promote", "retire"):
        sentence = tickless.refused("models", command, "rotation_6h@nosuch", "--models", folder)
        assert sentence == f"tickless: model rotation_6h@nosuch: not registered; there are {OLD}, {NEW}, {TRIED}"
        if command != "promote":
            assert "rotation_24h: has no champion; name" in tickless.refused("models", command, "rotation_24h", "--models", folder)


@pytest.mark.parametrize(
    ("effective_at", "told"), [("soon", "must be now, trained, or a time"), ("2020-01-01T00:00:00Z", "would know the future")]
)
def test_a_time_that_no_promotion_can_have_is_refused(tickless, folder, effective_at, told):
    version = f"rotation_6h@{TRIED}"
    sentence = tickless.refused("models", "promote", version, "--models", folder, "--effective-at", effective_at)
    assert sentence.startswith(f"tickless: --effective-at {effective_at}: ")
    assert told in sentence
    assert [entry.version for entry in FolderModelStore(folder).promotions("rotation_6h")] == [OLD, NEW]


def test_a_version_that_is_trained_for_later_is_champion_from_then_on(tickless, folder):
    store, later = FolderModelStore(folder), NOW + timedelta(minutes=20)
    store.register("rotation_6h", "20990101T0000Z", manifest("20990101T0000Z", later, 0.1), b"later")
    facts = tickless.json("models", "promote", "rotation_6h@20990101T0000Z", "--models", folder)
    assert parse_time(facts["effective_at"]) == later
    store.register("rotation_6h", "bad", {"model": "rotation_6h", "effective_at": "tomorrow"}, b"bad")
    assert "manifest.json does not say from when on" in tickless.refused("models", "promote", "rotation_6h@bad", "--models", folder, code=3)


def test_rollback_and_retire_for_runs_over_the_past(tickless, folder):
    store, past = FolderModelStore(folder), NOW - timedelta(days=2)
    assert (
        tickless.json("models", "rollback", "rotation_6h", "--models", folder, "--effective-at", iso(past))["model"] == f"rotation_6h@{OLD}"
    )
    assert champion_at(store.promotions("rotation_6h"), past).version == OLD
    assert champion_at(store.promotions("rotation_6h"), past - timedelta(hours=1)).version == NEW
    facts = tickless.json("models", "retire", "rotation_6h", "--models", folder, "--effective-at", iso(past))
    assert (facts["model"], facts["at"]) == (f"rotation_6h@{OLD}", iso(past))
    assert champion_at(store.promotions("rotation_6h"), NOW) is None


def test_rollback_refuses_a_version_that_is_damaged_or_was_deleted(tickless, folder):
    store = FolderModelStore(folder)
    (folder / "rotation_6h" / OLD / "artifact.onnx").write_bytes(b"damaged")
    assert "sha256" in tickless.refused("models", "rollback", "rotation_6h", "--models", folder, code=3)
    store.delete("rotation_6h", [OLD])
    sentence = tickless.refused("models", "rollback", "rotation_6h", "--models", folder)
    assert f"{OLD}, the champion before {NEW}, was deleted" in sentence
    assert [entry.version for entry in store.promotions("rotation_6h")] == [OLD, NEW]


def test_a_damaged_version_can_be_retired(tickless, folder):
    (folder / "rotation_6h" / NEW / "manifest.json").write_bytes(b"{")
    tickless("models", "retire", f"rotation_6h@{NEW}", "--models", folder)
    assert FolderModelStore(folder).life("rotation_6h").champion(datetime.now(UTC)) is None


def test_list_shows_all_that_can_be_read_and_names_what_cannot(tickless, folder):
    store = FolderModelStore(folder)
    store.register("rotation_24h", OLD, manifest(OLD, NOW, 0.5), b"x")
    (folder / "rotation_24h" / "champion.json").write_bytes(b"{")
    (folder / "rotation_6h" / TRIED / "manifest.json").write_bytes(b"{}")
    (folder / "rotation_6h" / NEW / "manifest.json").unlink()

    result = tickless("models", "list", "--models", folder, "--json", code=3)

    rows = [(row["model"], row["version"], row["stage"], row["rank_ic"]) for row in json.loads(result.stdout)]
    assert rows == [
        ("rotation_24h", OLD, "unreadable", 0.5),
        ("rotation_6h", TRIED, "candidate", None),
        ("rotation_6h", OLD, "retired", 0.01),
    ]
    first, second, third = result.stderr.splitlines()
    assert first.startswith("model rotation_24h: champion.json is not JSON")
    assert second == f"model rotation_6h@{TRIED}: manifest.json has no sha256"
    assert third == f"model rotation_6h@{NEW}: is in use and has no manifest"


@pytest.mark.parametrize(
    "odd", [{"measures": 5}, {"measures": ["x"]}, {"measures": {"rank_ic": "high"}}, {"effective_at": 1e999}, {"data_until": []}]
)
def test_list_leaves_out_what_no_training_writes(tickless, folder, odd):
    path = folder / "rotation_6h" / TRIED / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | odd))
    rows = {row["version"]: row for row in tickless.json("models", "list", "--models", folder)}
    (key,) = odd
    assert rows[TRIED]["rank_ic" if key == "measures" else key] is None
    assert rows[NEW]["rank_ic"] == 0.02
    assert NEW in tickless("models", "list", "--models", folder).stdout


def test_rollback_goes_back_to_the_champion_before_from_now_on(tickless, folder):
    facts = tickless.json("models", "rollback", "rotation_6h", "--models", folder)

    assert facts["model"] == f"rotation_6h@{OLD}"
    assert parse_time(facts["effective_at"]) >= NOW
    rows = tickless.json("models", "list", "--models", folder)
    assert {row["version"]: row["stage"] for row in rows} == {OLD: "champion", NEW: "retired", TRIED: "candidate"}
    promotions = FolderModelStore(folder).promotions("rotation_6h")
    assert champion_at(promotions, NOW - timedelta(hours=1)).version == NEW, "history stays as it was"


def test_a_second_rollback_does_not_return_to_what_the_first_one_left(tickless, folder):
    tickless("models", "promote", f"rotation_6h@{TRIED}", "--models", folder)

    assert tickless.json("models", "rollback", "rotation_6h", "--models", folder)["model"] == f"rotation_6h@{NEW}"
    assert tickless.json("models", "rollback", "rotation_6h", "--models", folder)["model"] == f"rotation_6h@{OLD}"
    assert f"no champion before {OLD}" in tickless("models", "rollback", "rotation_6h", "--models", folder, code=2).stderr


def test_what_cannot_be_promoted_or_rolled_back_is_refused_by_name(tickless, folder):
    store = FolderModelStore(folder)
    before = store.promotions("rotation_6h")

    for incomplete in ("rotation_6h", "rotation_6h@"):
        assert "name a version as rotation_6h@VERSION" in tickless("models", "promote", incomplete, "--models", folder, code=2).stderr
    (folder / "rotation_6h" / NEW / "artifact.onnx").write_bytes(b"damaged")
    assert "sha256" in tickless("models", "promote", f"rotation_6h@{NEW}", "--models", folder, code=3).stderr
    assert store.promotions("rotation_6h") == before


def test_a_first_champion_cannot_be_rolled_back(tickless, tmp_path):
    store = FolderModelStore(tmp_path / "models")
    store.register("rotation_6h", OLD, manifest(OLD, NOW, 0.01), b"")
    store.promote("rotation_6h", Promotion(OLD, NOW - timedelta(days=1), NOW, "the first"))

    told = tickless("models", "rollback", "rotation_6h", "--models", tmp_path / "models", code=2).stderr
    assert f"no champion before {OLD}" in told
