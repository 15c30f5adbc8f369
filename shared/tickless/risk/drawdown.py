"""Drawdown: how far equity lies below its peak, what it does to targets, and the kill switch."""

from __future__ import annotations

from tickless.settings import RiskSection


def drawdown_frac(equity: float, peak: float) -> float:
    """Equity over peak, less 1: zero or negative; 0 where there is no peak."""
    # The difference is exact, so 40,000 of 50,000 is -0.2 itself; 40000 / 50000 - 1 would stop just short of a kill switch at 20 %.
    return min(0.0, (equity - peak) / peak) if peak > 0.0 else 0.0


def target_scale(drawdown: float, settings: RiskSection) -> float:
    """The factor on all target weights: that of the deepest step whose drawdown is exceeded, else 1."""
    scale = 1.0
    for step in settings.drawdown_steps:
        if drawdown < -step.drawdown_frac:
            scale = step.scale_frac
    return scale


def kill_switch_trips(drawdown: float, settings: RiskSection) -> bool:
    """Whether the desk must stop opening positions until a person resumes it."""
    return settings.kill_switch_drawdown_frac is not None and drawdown <= -settings.kill_switch_drawdown_frac
