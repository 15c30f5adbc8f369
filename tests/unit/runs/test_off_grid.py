"""A tick between two risk checks is refused before anything is touched."""

from datetime import UTC, datetime

import pytest

from tickless.errors import EventError
from tickless.runs.admission import refuse_off_grid
from tickless.settings import Settings, load_desk
from tickless.types import Tick


@pytest.mark.parametrize(("minute", "every"), [(7, 15), (20, 15), (10, 30)])
def test_an_off_grid_tick_is_refused_by_name(minute, every):
    tick = Tick(datetime(2024, 6, 1, 3, minute, tzinfo=UTC), "risk_check")
    with pytest.raises(
        EventError, match=rf"event of risk_check: scheduled_time 2024-06-01T03:{minute:02}:00Z is not a multiple of {every} "
    ):
        refuse_off_grid(tick, desk_checked_every(every))


def desk_checked_every(minutes: int) -> Settings:
    return load_desk("rotation", [f"schedule.risk_check_every_min={minutes}", "schedule.rebalance_every_min=60"])


def test_a_tick_on_the_grid_passes():
    assert refuse_off_grid(Tick(datetime(2024, 6, 1, 3, 45, tzinfo=UTC), "risk_check"), desk_checked_every(15)) is None


def test_a_scan_lies_on_the_grid_of_its_own_strategy(tmp_path):
    path = tmp_path / "desk.toml"
    path.write_text('[desk]\ntimeframe = "5m"\n[strategy.crossover]\nscan_every_min = 5\n')
    settings = load_desk(str(path))
    assert refuse_off_grid(Tick(datetime(2024, 6, 1, 3, 10, tzinfo=UTC), "scan", "crossover"), settings) is None
    with pytest.raises(EventError, match="event of scan: scheduled_time 2024-06-01T03:07:00Z is not a multiple of 5 minutes"):
        refuse_off_grid(Tick(datetime(2024, 6, 1, 3, 7, tzinfo=UTC), "scan", "crossover"), settings)
    with pytest.raises(EventError, match="not a multiple of 15 minutes"):
        refuse_off_grid(Tick(datetime(2024, 6, 1, 3, 10, tzinfo=UTC), "risk_check"), settings)


def test_a_scan_of_a_strategy_that_the_desk_does_not_run_is_refused_by_name():
    with pytest.raises(EventError, match="event of scan: strategy 'crossover' is not one of this desk's: rotation"):
        refuse_off_grid(Tick(datetime(2024, 6, 1, 3, 15, tzinfo=UTC), "scan", "crossover"), desk_checked_every(15))
