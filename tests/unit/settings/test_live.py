"""Settings that are harmless in simulation and refused with a real account. ``desk.mode`` is set as no file can set it."""

from __future__ import annotations

import pytest

from tickless.errors import SettingsError
from tickless.settings import Section, Settings, build_settings, load_desk


def sections(desk: str, *overrides: str) -> dict[str, Section]:
    """A desk's sections, with a real account."""
    settings = load_desk(desk, overrides)
    plain = {name: getattr(settings, name) for name in ("universe", "schedule", "execution", "portfolio", "risk", "training", "alerts")}
    live = settings.desk.model_copy(update={"mode": "live", "secret_name": "desk/keys"})
    return {**plain, "desk": live, **{f"strategy.{name}": section for name, section in settings.strategy.items()}}


def test_a_real_account_takes_no_orders_off_its_steps():
    with pytest.raises(SettingsError, match=r"^execution\.filters: false is for simulation; with desk\.mode = 'live' it must be true"):
        build_settings(sections("crossover"))
    assert isinstance(build_settings(sections("crossover", "execution.filters=true")), Settings)


def test_a_lease_on_a_real_account_outlasts_the_orders_that_are_on_their_way():
    with pytest.raises(SettingsError, match=r"^schedule\.lease_ttl_s: 60 is for simulation; .* at least 120"):
        build_settings(sections("rotation", "schedule.lease_ttl_s=60"))
    assert isinstance(build_settings(sections("rotation", "schedule.lease_ttl_s=120")), Settings)


def test_both_are_as_before_in_simulation():
    assert load_desk("crossover").execution.filters is False
    assert load_desk("rotation", ["schedule.lease_ttl_s=60"]).schedule.lease_ttl_s == 60
