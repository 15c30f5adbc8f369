"""Gather: bring the desk's copy of the bars up to date, and make of it what a tick decides on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from tickless.bars import Panel, step_ms
from tickless.errors import ExchangeError, InputError, RateLimitedError, SettingsError
from tickless.ports import BarStore, Market, Ports, Venue
from tickless.runs.desk_strategies import HISTORIES, extra_pairs
from tickless.settings import Settings, UniverseSection
from tickless.strategies.contract import Strategy
from tickless.strategies.view import MarketView, ModelRefusal
from tickless.types import base_asset, iso

REFETCH_BARS = 4
"""Exchanges deliver bars late: the last rows are asked for again, and only what was missing is added."""


def universe_pairs(known: Sequence[str], universe: UniverseSection, stake: str) -> tuple[str, ...]:
    """The pairs a desk may trade, sorted. Raises SettingsError naming a whitelisted pair that the market does not have."""
    wanted = _wanted(known, universe, stake)
    for pair in sorted(wanted - set(known)):
        raise SettingsError(f"universe.pair_whitelist: {pair!r} has no bars on this market")
    pairs = tuple(sorted(wanted - set(universe.pair_blacklist)))
    _refuse_shared_assets(pairs, stake)
    return pairs


def _refuse_shared_assets(pairs: Sequence[str], stake: str) -> None:
    """An account holds assets, not pairs: two pairs of one asset could not be told apart, nor the stake currency from its own pair."""
    owner: dict[str, str] = {stake: "the stake currency"}
    for pair in pairs:
        base = base_asset(pair)
        if base in owner:
            raise SettingsError(f"universe: {pair} is {base}, and so is {owner[base]}; put one of them on universe.pair_blacklist")
        owner[base] = pair


def _wanted(known: Sequence[str], universe: UniverseSection, stake: str) -> set[str]:
    if universe.pair_whitelist != ("*",):
        return set(universe.pair_whitelist)
    return {pair for pair in known if pair.partition("/")[2].partition(":")[0] == stake}


def check_timerange(panel: Panel, start: datetime, end: datetime) -> None:
    """Raise InputError for a timerange that the data do not cover."""
    if not start < end:
        raise InputError(f"timerange {start:%Y%m%d}-{end:%Y%m%d}: must end after it starts")
    last = panel.end + timedelta(milliseconds=panel.step_ms)
    early, late = start < panel.start, end > last
    if early or late:
        ends = ["begins before", "ends after"] if early and late else ["begins before"] if early else ["ends after"]
        how = "outside" if start >= last or end <= panel.start else " and ".join(ends)
        raise InputError(f"timerange {iso(start)} to {iso(end)}: {how} the data, which reach from {iso(panel.start)} to {iso(panel.end)}")


def pairs_to_run(panel: Panel, known: Sequence[str], settings: Settings, start: datetime, end: datetime) -> tuple[str, ...]:
    """The universe of a run over recorded bars; raises InputError for a timerange outside them, a missing pair, or no pair at all."""
    check_timerange(panel, start, end)
    pairs = universe_pairs(known, settings.universe, settings.desk.stake_currency)
    if not pairs:
        raise InputError(f"universe: no pair quoted in {settings.desk.stake_currency} is left to trade")
    return pairs


def refresh_bars(
    bars: BarStore,
    market: Market,
    pairs: Sequence[str],
    timeframe: str,
    start: datetime,
    at: datetime,
    unread: Callable[[Sequence[str], str], None] = lambda _pairs, _why: None,
) -> None:
    """Make sure the store holds the bars of ``pairs`` from ``start`` up to those closed at ``at``. Whoever needs them first fetches.

    Pairs that are new beside others, and cannot be read, are left out until they can: ``unread`` is told of them, and why.
    """
    step = timedelta(milliseconds=step_ms(timeframe))
    since, through = bars.since(timeframe), bars.through(timeframe)
    if since is None or through is None:
        bars.write(market.bars(pairs, timeframe, start, at))
        return
    if start < since:
        bars.write(market.bars(pairs, timeframe, start, since))
    if through + step <= at:
        recent = max(since, through - REFETCH_BARS * step)
        stored = bars.read(timeframe, recent, through)
        fresh = [pair for pair in pairs if pair not in stored.column]
        if fresh:
            # The last bars of a pair whose past could not be read would hide that it has none.
            told = unread if len(fresh) < len(pairs) else None
            seen = _add(bars, market, fresh, timeframe, min(start, since), through, told) | set(stored.pairs)
            pairs = [pair for pair in pairs if pair in seen]
        latest = market.bars(pairs, timeframe, recent, at)
        back = sorted((_trading(latest) & set(stored.pairs)) - _trading(stored))
        if back:
            # After a gap at the exchange, or out of the universe for a while: then the store has a hole that the market has not.
            bars.write(market.bars(back, timeframe, _last_bar(bars.read(timeframe, start, through).select(back)), through))
        # Last of all, and all at once: whoever finds bars up to now fetches no more.
        bars.write(latest)


def _add(
    bars: BarStore,
    market: Market,
    pairs: Sequence[str],
    timeframe: str,
    start: datetime,
    end: datetime,
    unread: Callable[[Sequence[str], str], None] | None,
) -> set[str]:
    """Store what new pairs have traded; those that were read. Where none can be, ``unread`` is told, if there is one: else it raises."""
    try:
        found = market.bars(pairs, timeframe, start, end)
    except ExchangeError as error:
        # Whether the exchange fails, or they alone, the other pairs will tell.
        if unread is None or isinstance(error, RateLimitedError):
            raise
        unread(pairs, str(error))
        return set()
    bars.write(found)
    return _trading(found)


def _trading(panel: Panel) -> set[str]:
    """The pairs that have a bar in a panel."""
    return {pair for n, pair in enumerate(panel.pairs) if not np.isnan(panel.close[:, n]).all()}


def _last_bar(panel: Panel) -> datetime:
    """When the earliest of the pairs' last bars opens; the panel's start where a pair has none."""
    here = ~np.isnan(panel.close)
    last = np.where(here.any(axis=0), panel.rows - 1 - here[::-1].argmax(axis=0), 0) if panel.rows else np.zeros(1, dtype=np.intp)
    return panel.start + int(last.min()) * timedelta(milliseconds=panel.step_ms)


def held_closes(bars: BarStore, held: Sequence[str], timeframe: str, at: datetime) -> dict[str, float]:
    """The closes of held pairs whose bar has just closed at ``at``; pairs without that bar are absent."""
    if not held:
        return {}
    row = bars.read(timeframe, at - timedelta(milliseconds=step_ms(timeframe)), at).select(held)
    closes = row.close[-1] if row.rows else np.full(len(held), np.nan)
    return {pair: float(close) for pair, close in zip(held, closes, strict=True) if not np.isnan(close)}


def view_market(ports: Ports, venue: Venue, settings: Settings, strategy: Strategy, at: datetime) -> MarketView:
    """What a strategy sees at ``at``, from stored bars that have closed."""
    pairs = universe_pairs(venue.market.pairs(), settings.universe, settings.desk.stake_currency)
    panel = ports.bars.read(settings.desk.timeframe, strategy.first_bar(settings, at), at)
    for pair in strategy.extra_pairs(settings):
        if pair not in panel.column:
            ports.log.warning("no bars of a pair that the strategy looks at", pair=pair, strategy=strategy.name)
    history = HISTORIES[strategy.name](panel, pairs, settings, at, ports.models)
    view = history.view(at)
    for refusal in view.refused:
        _tell(refusal, ports)
    if history.forecasting and not view.models:
        ports.metrics.count("ModelFallback")
    return view


def _tell(refusal: ModelRefusal, ports: Ports) -> None:
    """Wake people for a forecast that is missing. One in shadow decides nothing: it is counted, and the nightly review looks after it."""
    if refusal.stage == "champion":
        ports.metrics.count("ModelRefused")
        ports.log.warning("model refused", error=refusal.reason)
        ports.notifier.alert("model refused", refusal.reason)
    else:
        ports.metrics.count("ShadowRefused")
        ports.log.warning("model in shadow refused", error=refusal.reason)


def needed_pairs(known: Sequence[str], settings: Settings, held: Mapping[str, object]) -> tuple[str, ...]:
    """Pairs whose bars a tick needs: the universe, what is held, and what else its strategies look at, where it exists.

    A whitelisted pair that the market has lost is left out here and refused by the rebalance: risk checks and their exits must go on.
    """
    universe = settings.universe
    wanted = _wanted(known, universe, settings.desk.stake_currency) - set(universe.pair_blacklist)
    return tuple(sorted(((wanted | extra_pairs(settings)) & set(known)) | set(held)))
