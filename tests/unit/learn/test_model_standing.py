"""Reading a model's life as of a time: stages, shadows, and what deleting leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tickless.alpha.model_life import STAGES, ModelEvent, ModelLife, Promotion

T0 = datetime(2024, 6, 1, tzinfo=UTC)
VERSIONS = ("v1", "v2", "v3")


def at(hours: int) -> datetime:
    return T0 + timedelta(hours=hours)


hours = st.integers(0, 9).map(at)
promotions = st.builds(Promotion, st.sampled_from(("", *VERSIONS)), hours, st.just(T0), st.just(""))
events = st.builds(ModelEvent, st.sampled_from(VERSIONS), st.sampled_from(STAGES), hours, st.just(""))
lives = st.builds(ModelLife, st.lists(promotions, max_size=5).map(tuple), st.lists(events, max_size=8).map(tuple))


@given(lives, st.integers(-1, 10))
def test_every_version_has_one_stage_and_at_most_one_is_champion(life: ModelLife, hour: int) -> None:
    stages = [life.stage(version, at(hour)) for version in VERSIONS]
    assert set(stages) <= set(STAGES)
    assert stages.count("champion") == (life.champion(at(hour)) is not None)
    assert sorted(event.version for event in life.shadows(at(hour))) == [v for v, s in zip(VERSIONS, stages, strict=True) if s == "shadow"]


@given(lives, st.lists(st.integers(-1, 10), min_size=1, max_size=6))
def test_how_versions_stand_does_not_depend_on_who_asked_before(life: ModelLife, asked: list[int]) -> None:
    for hour in asked:
        fresh = ModelLife(life.promotions, life.events)
        assert life.standing(at(hour)) == fresh.standing(at(hour))


@given(lives, st.integers(-1, 10))
def test_what_was_deleted_leaves_no_event_and_changes_no_champion(life: ModelLife, hour: int) -> None:
    after = life.without(["v2"])
    assert after.champion(at(hour)) == life.champion(at(hour))
    assert {event.version for event in after.events} <= {"v1", "v3"}
    for version in ("v1", "v3"):
        assert after.stage(version, at(hour)) == life.stage(version, at(hour))


def test_the_size_of_a_champion_is_that_of_its_last_event() -> None:
    life = ModelLife(
        (Promotion("v1", at(0), at(0), ""),), (ModelEvent("v1", "champion", at(2), "drifted", size_frac=0.5, action="shrink"),)
    )
    assert (life.standing(at(1)).size_frac, life.standing(at(2)).size_frac) == (1.0, 0.5)
