"""``ports.Market`` for a desk at Roostoo, which has pairs and filters but no candles: its bars are those of another exchange.

A pair is mapped by its base: ``BTC/USD`` at Roostoo reads the bars of ``BTC/USDT`` where the source is quoted in USDT, ``renamed`` says
where another coin or another name is meant. Pairs that the source does not have are left out, and named in ``left_out``: nobody decides on
prices that do not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from tickless.adapters.ccxt_client import MARKETS_AGAIN, MARKETS_FOR
from tickless.adapters.roostoo_answers import read_rules
from tickless.adapters.roostoo_client import RoostooClient
from tickless.bars import Panel
from tickless.errors import DataError, ExchangeError, RetryableError
from tickless.ports import Market
from tickless.types import PairRules, base_asset, from_ms


class RoostooMarket:
    """Roostoo's pairs in ``stake``, with the bars of ``source``, whose pairs are quoted in ``source_quote``.

    ``renamed`` maps pairs of Roostoo to pairs of the source. Pairs and filters are asked for when first
    needed, and again every hour; those of before stay where they cannot be read. ``now`` tells when an hour is over.
    """

    def __init__(
        self,
        client: RoostooClient,
        source: Market,
        stake: str,
        source_quote: str,
        renamed: Mapping[str, str] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._source = source
        self._stake = stake
        self._source_quote = source_quote
        self._renamed = dict(renamed or {})
        self._now = now
        self._renew_at = from_ms(0)
        self._rules: Mapping[str, PairRules] | None = None
        self._mapped: Mapping[str, str] | None = None

    def pairs(self) -> Sequence[str]:
        """Every pair that trades now and has bars at the source, sorted. Raises RetryableError, ExchangeError."""
        mapping, rules = self._mapping(), self.rules()
        return [pair for pair in mapping if pair in rules and rules[pair].active]

    @property
    def left_out(self) -> Sequence[str]:
        """The pairs of Roostoo for which the source has no bars, sorted. Raises as ``pairs``."""
        return sorted(self.rules().keys() - self._mapping().keys())

    def rules(self) -> Mapping[str, PairRules]:
        """Roostoo's filters by pair, not the source's. Raises RetryableError, ExchangeError."""
        now = self._now()
        if self._rules is None or now >= self._renew_at:
            self._renew_at = now + MARKETS_AGAIN
            try:
                rules = self._read()
            except ExchangeError:
                if self._rules is None:
                    raise
            else:
                # The pairs of the source are asked for again, too: it may have taken up, or lost, one of ours.
                self._rules, self._mapped, self._renew_at = rules, None, now + MARKETS_FOR
        return self._rules

    def _read(self) -> Mapping[str, PairRules]:
        try:
            rules = read_rules(self._client.exchange_info(), self._stake)
        except ValueError as error:
            raise RetryableError(f"roostoo: exchangeInfo: {error}") from error
        if not rules:
            raise RetryableError(f"roostoo: exchangeInfo: no pair is quoted in {self._stake}")
        return rules

    def bars(self, pairs: Sequence[str], timeframe: str, start: datetime, end: datetime) -> Panel:
        """The source's bars under Roostoo's names, in this order; a pair that the source does not have is NaN. Raises as the source."""
        mapping = self._mapping()
        known = [pair for pair in pairs if pair in mapping]
        found = self._source.bars([mapping[pair] for pair in known], timeframe, start, end)
        named = replace(found, pairs=tuple(known))
        return named if list(pairs) == known else named.select(pairs)

    def opens(self, pairs: Sequence[str], timeframe: str, at: datetime) -> Mapping[str, float]:
        """The source's opens under Roostoo's names; pairs without one are absent. Raises as the source."""
        mapping = self._mapping()
        known = {mapping[pair]: pair for pair in pairs if pair in mapping}
        found = self._source.opens(list(known), timeframe, at)
        return {known[pair]: price for pair, price in found.items()}

    def _mapping(self) -> Mapping[str, str]:
        """Pairs of the source by ours, sorted; raises DataError where two of ours would be one of the source's."""
        rules = self.rules()
        if self._mapped is None:
            there = set(self._source.pairs())
            wanted = {pair: self._renamed.get(pair, f"{base_asset(pair)}/{self._source_quote}") for pair in sorted(rules)}
            mapped = {pair: name for pair, name in wanted.items() if name in there}
            if len(set(mapped.values())) < len(mapped):
                names = list(mapped.values())
                twice = next(name for name in names if names.count(name) > 1)
                raise DataError(f"roostoo: two pairs are mapped to {twice} of the source of bars")
            self._mapped = mapped
        return self._mapped
