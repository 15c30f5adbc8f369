from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from tickless.alpha.champion import champion_at, check_manifest, load_champion, load_model
from tickless.errors import ArtifactError

AT = datetime(2024, 6, 1, 3, tzinfo=UTC)
FEATURES = ("a", "b", "c")


@dataclass(frozen=True)
class Entry:
    version: str
    effective_at: datetime


def test_the_champion_is_the_last_entry_effective_by_the_tick():
    history = [Entry("v1", AT - timedelta(days=1)), Entry("v2", AT), Entry("v3", AT + timedelta(minutes=1))]
    chosen = champion_at(history, AT)
    assert chosen is not None
    assert chosen.version == "v2"
    assert champion_at(history, AT - timedelta(days=2)) is None
    assert champion_at([], AT) is None


def test_a_rollback_wins_over_a_promotion_that_takes_effect_later():
    history = [Entry("old", AT - timedelta(days=1)), Entry("bad", AT + timedelta(minutes=30)), Entry("old", AT + timedelta(minutes=5))]
    chosen = champion_at(history, AT + timedelta(hours=1))
    assert chosen is not None
    assert chosen.version == "old"


def test_a_good_champion_loads(manifest, artifact):
    model = load_champion("rotation_6h", manifest, artifact, at=AT, max_age_days=14, features=FEATURES)
    assert model.label == "rotation_6h@20240601T0210Z"
    assert load_champion("rotation_6h", manifest, artifact, at=AT, max_age_days=14, features=FEATURES) is model


@pytest.mark.parametrize("key", ["data_until", "label_until", "effective_at"])
def test_a_model_that_knows_the_future_is_refused(manifest, key):
    check_manifest(manifest | {key: "2024-06-01T03:00:00Z"}, AT, 14)
    with pytest.raises(ArtifactError, match=f"{key} 2024-06-01T03:00:01Z lies after the tick"):
        check_manifest(manifest | {key: "2024-06-01T03:00:01Z"}, AT, 14)


def test_a_model_that_is_too_old_is_refused(manifest):
    limit = datetime(2024, 6, 15, 2, tzinfo=UTC)
    check_manifest(manifest, limit, 14)
    with pytest.raises(ArtifactError, match="max_model_age_days is 14"):
        check_manifest(manifest, limit + timedelta(seconds=1), 14)


@pytest.mark.parametrize("text", ["yesterday", "2024-06-01T00:00:00", ""])
def test_a_time_that_is_none_is_refused(manifest, text):
    with pytest.raises(ArtifactError, match="is not a time"):
        check_manifest(manifest | {"label_until": text}, AT, 14)


def test_a_manifest_of_another_model_or_other_features_is_refused(manifest, artifact):
    with pytest.raises(ArtifactError, match="that of 'rotation_6h'"):
        load_champion("rotation_24h", manifest, artifact, at=AT, max_age_days=14, features=FEATURES)
    with pytest.raises(ArtifactError, match="wants features"):
        load_champion("rotation_6h", manifest, artifact, at=AT, max_age_days=14, features=("a", "b", "x"))


def test_the_cache_never_hides_damage(manifest, artifact):
    load_model(manifest, artifact)
    damaged = artifact[:-1] + bytes([artifact[-1] ^ 1])
    with pytest.raises(ArtifactError, match="sha256"):
        load_model(manifest, damaged)


def test_the_same_bytes_under_another_manifest_are_checked_anew(manifest, artifact):
    load_model(manifest, artifact)
    with pytest.raises(ArtifactError, match="trained on"):
        load_model(manifest | {"features": ["c", "b", "a"]}, artifact)
    assert load_model(manifest | {"version": "20240602T0210Z"}, artifact).version == "20240602T0210Z"
