"""Whether the exchange that a desk's bars come from hands out as many as its strategies read back."""

from __future__ import annotations

from datetime import datetime

from tickless.bars import step_ms
from tickless.runs.desk_strategies import history_start
from tickless.settings import MOST_HISTORY_BARS, ROOSTOO, Settings
from tickless.types import to_ms


def short_history(settings: Settings, at: datetime) -> str:
    """One sentence that names both numbers where a new desk's bars reach back less far than its strategies read; else empty."""
    desk = settings.desk
    key = "bars_exchange" if desk.exchange == ROOSTOO else "exchange"
    exchange = getattr(desk, key)
    most = MOST_HISTORY_BARS.get(exchange)
    step = step_ms(desk.timeframe)
    needed = -(-(to_ms(at) - to_ms(history_start(settings, at))) // step)
    if most is None or needed <= most:
        return ""
    days = (needed - most) * step / 86_400_000
    return (
        f"desk.{key}: {exchange!r} hands out no more than the latest {most} bars of {desk.timeframe}, and the desk's strategies read "
        f"about {needed} back: for its first {days:.3g} days a new desk knows less than it would elsewhere, and rests or decides on that"
    )
