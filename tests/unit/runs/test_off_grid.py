"""A tick between two risk checks is refused before anything is touched."""

from datetime import UTC, datetime

import pytest

from tickless.errors import EventError
from tickless.runs.desk_tick import _refuse_off_grid
from tickless.settings import ScheduleSection
from tickless.types import Tick


@pytest.mark.parametrize(("minute", "every"), [(7, 15), (20, 15), (10, 30)])
def test_an_off_grid_tick_is_refused_by_name(minute, every):
    tick = Tick(datetime(2024, 6, 1, 3, minute, tzinfo=UTC), "risk_check")
    with pytest.raises(
        EventError, match=rf"event of risk_check: scheduled_time 2024-06-01T03:{minute:02}:00Z is not a multiple of {every} "
    ):
        _refuse_off_grid(tick, ScheduleSection(risk_check_every_min=every, rebalance_every_min=60))


def test_a_tick_on_the_grid_passes():
    assert _refuse_off_grid(Tick(datetime(2024, 6, 1, 3, 45, tzinfo=UTC), "risk_check"), ScheduleSection()) is None
