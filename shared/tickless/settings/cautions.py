"""Settings that are valid and yet do nothing, or less than they say."""

from __future__ import annotations

import math

from tickless.settings.account_cautions import account_cautions
from tickless.settings.files import Settings
from tickless.settings.model_names import specified_models
from tickless.types import TIMEFRAME_MINUTES


def cautions(settings: Settings) -> tuple[str, ...]:
    """One sentence for each such setting, naming keys and values; none for most desks."""
    return (*_unfilled(settings), *_never_trained(settings), *account_cautions(settings))


def _never_trained(settings: Settings) -> list[str]:
    """Models that a strategy names and nobody can train: only a registry can tell whether there is one all the same."""
    known = specified_models()
    return [
        f"strategy.{strategy}.{key}: {name!r} has no specification models/{name}/spec.toml, so it is never trained: without a registered "
        f"model of this name the strategy does without it; known: {', '.join(known)}"
        for strategy, names in settings.models.items()
        for key, name in settings.strategy[strategy].model_dump().items()
        if name in names and name not in known
    ]


def _unfilled(settings: Settings) -> list[str]:
    """What is said of orders that are not filled."""
    execution = settings.execution
    if execution.order_type == "market":
        idle = []
        if execution.unfilled_requotes:
            idle.append(f"execution.unfilled_requotes: {execution.unfilled_requotes}")
        if execution.unfilled_action != "cancel":
            idle.append(f"execution.unfilled_action: {execution.unfilled_action!r}")
        return [f"{setting} does nothing with execution.order_type = 'market': only limit orders are quoted again" for setting in idle]
    return [*_too_short_for_a_bar(settings), *_never_reached(settings)]


def _too_short_for_a_bar(settings: Settings) -> list[str]:
    """Where no bar that could fill a resting limit closes before the order ends."""
    execution, timeframe = settings.execution, settings.desk.timeframe
    bar_s = 60 * TIMEFRAME_MINUTES[timeframe]
    needed_s = math.ceil(execution.latency_s / bar_s) * bar_s + bar_s
    if execution.unfilled_timeout_s >= needed_s:
        return []
    late = f" and execution.latency_s = {execution.latency_s:g}" if execution.latency_s else ""
    sentence = (
        f"execution.unfilled_timeout_s: {execution.unfilled_timeout_s} ends a limit order before a bar can fill it where it rests: with "
        f"desk.timeframe = {timeframe!r}{late} that takes {needed_s} s in simulation, so only marketable limits fill there"
    )
    return [sentence]


def _never_reached(settings: Settings) -> list[str]:
    """Re-quotes, and the crossing after them, that the next rebalance always forestalls: it decides on the pair anew."""
    execution, strategy = settings.execution, settings.calendar.rebalanced
    if not strategy:
        return []
    steps = _steps_between_rebalances(settings)
    why = (
        f"with execution.unfilled_timeout_s = {execution.unfilled_timeout_s} the next rebalance of {strategy} "
        f"(schedule.rebalance_every_min = {settings.schedule.rebalance_every_min}) decides on the pair anew before"
    )
    told = []
    if steps < execution.unfilled_requotes:
        told.append(f"execution.unfilled_requotes: {execution.unfilled_requotes} comes to {steps or 'none'} at most: {why} the next")
    if execution.unfilled_action == "cross" and steps <= execution.unfilled_requotes:
        after = f" after execution.unfilled_requotes = {execution.unfilled_requotes}" if execution.unfilled_requotes else ""
        told.append(f"execution.unfilled_action: 'cross'{after} is never reached: {why} it")
    return told


def _steps_between_rebalances(settings: Settings) -> int:
    """How often an order of a rebalance can run out of time and go on before the next rebalance."""
    schedule = settings.schedule
    # A rest goes on at the first tick at or after the end of its order; risk checks and scans are ticks.
    every_min = min([schedule.risk_check_every_min, *(every for _, every in settings.calendar.scans)])
    step_min = math.ceil(settings.execution.unfilled_timeout_s / 60 / every_min) * every_min
    return math.ceil(schedule.rebalance_every_min / step_min) - 1
