"""One pair's bars of an exchange, page by page: how many at once, and what an answer that begins late means.

Asked for so many bars from a time on, exchanges answer with the first of them at or after it (Binance), with those of that window
(Coinbase, Gate), or, where they give fewer at once than they were asked for, with the *last* of the window (Bitget): then bars are missing
that look as if the pair had none. So an answer that begins late is doubted: the bars just before its first are asked for by themselves, and
where there are any, pages become smaller. Every page moves on or makes pages smaller, so the loop ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tickless.bars import floor_ms

PAGE_BARS = 1000
SEEKING = ("binance", "binanceus", "binanceusdm", "binancecoinm")
"""Exchanges that answer with the first bars at or after ``since``, however far ahead: an empty page means that there is nothing more."""
OPEN_ENDED = ("bingx", "htx", "mexc")
"""Exchanges that ccxt tells no end that goes by ``count``, unless it is asked to: they might count back from a later one, or from now."""
GIVES_LESS = {"mexc": 500}
"""Exchanges that give fewer bars at once than ccxt's table says."""
LEAST_PAGE_BARS = 50
"""Shorter pages are not doubted, and none is made shorter: nobody gives less at once."""
MOST_DOUBTS = 3
"""Gaps and late listings are as common as cut answers are rare: after so many true ones a pair's further pages are believed."""
_LEAD_BARS = 2
"""An exchange that counts back may count the bars at both ends of a window, which costs the first."""

Rows = list[list[Any]]


def page_bars(client: Any) -> int:
    """How many bars to ask for at once: what ccxt knows of the exchange, at most ``PAGE_BARS``.

    An exchange that gives fewer than it was asked for, and counts back, leaves out the first. One that answers from ``since`` on may.
    """
    if client.id in SEEKING:
        return PAGE_BARS
    try:
        kinds = client.features["swap"]["linear"] if client.options.get("defaultType") == "swap" else client.features["spot"]
        limit = int(kinds["fetchOHLCV"]["limit"] or PAGE_BARS)
    except (KeyError, TypeError, AttributeError):
        limit = PAGE_BARS
    return min(limit, PAGE_BARS, GIVES_LESS.get(client.id, PAGE_BARS))


class BarPages:
    """Pages of one client, which keeps what it has learnt of its exchange: ``limit``, the bars of a page, and whether answers are cut."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.limit = page_bars(client)
        self._cut = False

    def fetch(self, pair: str, timeframe: str, since: int, count: int, step: int) -> Rows:
        """One request for ``count`` bars that open at or after ``since``; rows are ``[ms, open, high, low, close, volume]``."""
        lead = _LEAD_BARS if self._cut else 0
        begin, asked = since - lead * step, count + lead
        further = ({"until": begin + asked * step - 1},) if self._client.id in OPEN_ENDED else ()
        return [row for row in self._client.fetch_ohlcv(pair, timeframe, begin, asked, *further) if row[0] >= since]

    def read(self, fetch: Callable[[int, int], Rows], start_ms: int, end_ms: int, step: int) -> Iterator[tuple[Rows, int]]:
        """The rows of [start, end), by page, and up to where that page has asked; ``fetch`` takes since and count, and may raise."""
        since, doubts = start_ms, 0
        while since < end_ms:
            asked = min(self.limit, (end_ms - since) // step)
            page = fetch(since, asked)
            first = min((int(row[0]) for row in page), default=end_ms)
            if page and doubts < MOST_DOUBTS and self._may_be_cut(since, first, asked, step):
                if self._cut_before(fetch, since, min(first, end_ms), len(page), step):
                    self.limit, self._cut = min(self.limit, max(LEAST_PAGE_BARS, min(len(page), asked // 2))), True
                    continue
                doubts += 1
            if page:
                since = floor_ms(max([since, *(int(row[0]) for row in page)]), step) + step
            else:
                since = end_ms if self._client.id in SEEKING else since + asked * step
            yield [row for row in page if row[0] < end_ms and row[0] % step == 0], min(since, end_ms)

    def _may_be_cut(self, since: int, first: int, asked: int, step: int) -> bool:
        return self._client.id not in SEEKING and asked > LEAST_PAGE_BARS and first >= since + step

    def _cut_before(self, fetch: Callable[[int, int], Rows], since: int, first: int, answered: int, step: int) -> bool:
        """Whether there are bars just before the first of an answer, in less than it held, so that nothing is left out of these."""
        few = max(2 * _LEAD_BARS, min(answered, LEAST_PAGE_BARS) // 2)
        return any(since <= row[0] < first for row in fetch(first - few * step, few))
