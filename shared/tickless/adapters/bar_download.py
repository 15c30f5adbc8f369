"""Bars of an exchange into a folder, through ccxt: asks for what the files lack, and can be stopped at any time.

The files are the state. What follows a file's last bar is asked for from the oldest bar on, what precedes its first in blocks from the
newest on, and a range that does not touch the file takes along what lies between: so no file ever gets a hole that is not the exchange's.
A file is written after every block, and when anything goes wrong.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tickless.adapters.bar_files import PairBars
from tickless.adapters.bar_pages import PAGE_BARS, BarPages
from tickless.adapters.bar_union import BarTarget, Span, span_of, targets, unite
from tickless.adapters.ccxt_client import MarketType, ask, open_client
from tickless.adapters.ccxt_market import is_possible, pair_rules
from tickless.adapters.markets_file import read_folder_markets, write_markets
from tickless.bars import floor_ms, step_ms
from tickless.errors import DataError, ExchangeError, InputError, RetryableError
from tickless.types import PairRules, to_ms

T = TypeVar("T")
BLOCK_PAGES = 50
"""Pages between two writes of a file."""
ATTEMPTS = 5
LONGEST_WAIT_S = 300.0
"""A rate limit that asks for a longer pause ends the download; it goes on where it stopped when called again."""
MOST_FAILED_IN_A_ROW = 3


@dataclass(frozen=True)
class PairDownload:
    """What became of one pair."""

    pair: str
    path: Path
    status: str
    """``done``, ``no_bars`` (none in the range), ``unknown`` (the exchange does not serve it, or not any more) or ``failed``."""
    added: int
    span: Span
    active: bool = True
    """Whether it trades now."""
    error: str = ""


@dataclass(frozen=True)
class DownloadReport:
    """What was downloaded."""

    exchange: str
    timeframe: str
    start_ms: int
    end_ms: int
    """Every stored bar closes at or before this time."""
    pairs: tuple[PairDownload, ...]
    markets: int


@dataclass
class Asking:
    """Requests of one client: network errors are asked again, a rate limit is obeyed, both a bounded number of times."""

    client: Any
    sleep: Callable[[float], None] = time.sleep
    attempts: int = ATTEMPTS
    waits: list[float] = field(default_factory=list)
    """The pauses that rate limits asked for, in seconds."""

    def __call__(self, what: str, request: Callable[[], T]) -> T:
        """The answer. Raises RetryableError when it stays away, ExchangeError for a refusal."""
        for attempt in range(1, self.attempts + 1):
            self.client.last_response_headers = None
            try:
                return ask(what, request, attempts=self.attempts, backoff_s=1.0, sleep=self.sleep)
            except RetryableError as error:
                pause = self._pause(error, attempt)
                if pause is None or attempt == self.attempts:
                    raise
                if pause > LONGEST_WAIT_S:
                    raise RetryableError(f"{error}; it asks for a pause of {pause:.0f} s: call again after that") from error
                self.waits.append(pause)
                self.sleep(pause)
        raise ValueError(f"attempts {self.attempts}: must be at least 1")

    def _pause(self, error: RetryableError, attempt: int) -> float | None:
        """Seconds to wait after a rate limit: what ``Retry-After`` says, else more each time; None after any other error."""
        errors = importlib.import_module("ccxt.base.errors")
        if not isinstance(error.__cause__, errors.DDoSProtection | errors.RateLimitExceeded):
            return None
        answered = dict(self.client.last_response_headers or {})
        headers = {str(name).lower(): str(value) for name, value in answered.items()}
        try:
            seconds = float(headers.get("retry-after", ""))
        except ValueError:
            seconds = math.nan
        return seconds if math.isfinite(seconds) and seconds >= 0 else 15.0 * float(2 ** (attempt - 1))


def download(
    exchange_id: str,
    pairs: Sequence[str],
    timeframe: str,
    start: datetime,
    end: datetime | None,
    out: Path,
    *,
    file_format: str = "parquet",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
    timeout_s: float = 20.0,
) -> DownloadReport:
    """The bars of these pairs that open in [start, end) and have closed (``end`` None: until now), into one file a pair.

    Pairs such as ``BTC/USDT:USDT`` are perpetual contracts. A pair that the exchange does not list is reported. One that fails is reported
    too, with what it got before in its file; after three in a row the rest is not tried. Raises SettingsError for an unknown exchange,
    InputError where it lists none of the pairs, or for spot pairs and contracts at once, DataError for a timeframe it does not serve or a
    file that cannot be read, RetryableError where it does not answer at all.
    """
    step = step_ms(timeframe)
    market_type = _market_type(pairs)
    client = open_client(exchange_id, timeout_s, market_type)
    asking = Asking(client, sleep)
    if timeframe not in (client.timeframes or {}):
        raise DataError(f"{exchange_id} serves no {timeframe} bars")
    wanted = list(dict.fromkeys(pairs))
    files = targets(out, wanted, timeframe, file_format)
    filters = read_folder_markets(out)
    markets = asking(f"{exchange_id}: markets", client.load_markets)
    listed = [pair for pair in wanted if (markets.get(pair) or {}).get(market_type)]
    if not listed:
        raise InputError(f"--pairs {', '.join(wanted)}: {exchange_id} lists no such {market_type} pair")
    first_ms = -(-to_ms(start) // step) * step
    closed_ms = floor_ms(_exchange_ms(client, asking, now), step)
    end_ms = closed_ms if end is None else min(closed_ms, floor_ms(to_ms(end), step))
    progress = _Progress(advance, len(wanted), max(1, end_ms - first_ms))
    job = _Job(asking, BarPages(client), exchange_id, timeframe, first_ms, max(first_ms, end_ms), progress)
    rules = {pair: pair_rules(pair, markets[pair], client.precisionMode) for pair in listed}
    out.mkdir(parents=True, exist_ok=True)
    write_markets(out, filters | rules)
    found = _each(job, wanted, files, rules)
    return DownloadReport(exchange_id, timeframe, job.start_ms, job.end_ms, tuple(found), len(rules))


def _market_type(pairs: Sequence[str]) -> MarketType:
    """Contracts are written ``BTC/USDT:USDT``. Raises InputError for both kinds at once: they lie in different folders."""
    contracts = [pair for pair in pairs if ":" in pair]
    if contracts and len(contracts) < len(pairs):
        raise InputError(f"--pairs: {contracts[0]} is a contract and others are spot pairs; download them into folders of their own")
    return "swap" if contracts else "spot"


@dataclass(frozen=True)
class _Job:
    """One download: whom to ask, for what."""

    asking: Asking
    pages: BarPages
    exchange_id: str
    timeframe: str
    start_ms: int
    end_ms: int
    progress: _Progress


@dataclass
class _Progress:
    """How far the download is, in seconds of market time over all pairs."""

    advance: Callable[[int, int], None]
    pairs: int
    range_ms: int
    pair: int = 0
    asked_ms: int = 0

    def begin(self, pair: int) -> None:
        """The pair with this number, from 0, is next."""
        self.pair, self.asked_ms = pair, 0
        self.move(0)

    def move(self, asked_ms: int) -> None:
        """So much more of the pair's range has been asked for."""
        self.asked_ms = min(self.asked_ms + asked_ms, self.range_ms)
        self.advance((self.pair * self.range_ms + self.asked_ms) // 1000, self.pairs * self.range_ms // 1000)


def _exchange_ms(client: Any, asking: Asking, now: Callable[[], datetime]) -> int:
    """The earlier of the exchange's clock, where it tells it, and ours: a clock that is ahead takes a running bar for a closed one."""
    if not client.has.get("fetchTime"):
        return to_ms(now())
    return min(to_ms(now()), int(asking(f"{client.id}: time", client.fetch_time)))


def _each(
    job: _Job,
    wanted: Sequence[str],
    files: dict[str, BarTarget],
    rules: dict[str, PairRules],
) -> list[PairDownload]:
    found: list[PairDownload] = []
    failed_in_a_row = 0
    for n, pair in enumerate(wanted):
        job.progress.begin(n)
        target = files[pair]
        if pair not in rules:
            found.append(PairDownload(pair, target.path, "unknown", 0, _stored(target), active=False))
        elif failed_in_a_row >= MOST_FAILED_IN_A_ROW:
            reason = f"not tried after {MOST_FAILED_IN_A_ROW} failures in a row"
            found.append(PairDownload(pair, target.path, "failed", 0, _stored(target), error=reason))
        else:
            done = _download_pair(job, target, active=rules[pair].active)
            failed_in_a_row = failed_in_a_row + 1 if done.status == "failed" else 0
            found.append(done)
    job.progress.begin(len(wanted))
    return found


def _stored(target: BarTarget) -> Span:
    return span_of(target.read()[0])


def _download_pair(job: _Job, target: BarTarget, *, active: bool) -> PairDownload:
    record = _Record(target, target.read()[0])
    error, refused = "", False
    try:
        for block_start, block_end in _blocks(job, record.bars):
            _fetch_block(job, record, block_start, block_end)
    except ExchangeError as failure:
        error = str(failure)
        refused = isinstance(failure.__cause__, importlib.import_module("ccxt.base.errors").BadSymbol)
    span = span_of(record.bars)
    status = "unknown" if refused else "failed" if error else "done" if span.rows else "no_bars"
    return PairDownload(target.pair, target.path, status, record.added, span, active, error)


@dataclass
class _Record:
    """A pair's file while it grows."""

    target: BarTarget
    bars: PairBars
    added: int = 0

    def take(self, rows: list[list[Any]]) -> None:
        """Unite with what came, and write if that changed anything."""
        if not rows:
            return
        table = np.asarray(rows, dtype=np.float64)
        times, index = np.unique(table[:, 0].astype(np.int64), return_index=True)
        came = PairBars(self.target.pair, self.target.timeframe, times, np.ascontiguousarray(table[index, 1:].T))
        joined = unite(self.bars, came)
        self.bars, self.added = joined.bars, self.added + joined.added
        if joined.added or joined.conflicting:
            self.target.write(joined.bars)


def _blocks(job: _Job, bars: PairBars) -> Iterator[tuple[int, int]]:
    """What to ask for, as [start, end): first what follows the file's last bar, then what precedes its first, from the newest on.

    The last bar is asked for again: it may have been stored by a tool that does not wait for the close.
    """
    size = BLOCK_PAGES * PAGE_BARS * step_ms(job.timeframe)
    known = bars.open_times_ms
    after = int(known[-1]) if len(known) else job.start_ms
    for start in range(after, job.end_ms, size):
        yield start, min(start + size, job.end_ms)
    if len(known):
        for end in range(int(known[0]), job.start_ms, -size):
            yield max(end - size, job.start_ms), end


def _fetch_block(job: _Job, record: _Record, start_ms: int, end_ms: int) -> None:
    """Ask for one block, page by page. What came before an error is kept where it joins the file, which is only so behind its end."""
    rows: list[list[Any]] = []
    known = record.bars.open_times_ms  # as it was before this block
    joins = not len(known) or start_ms >= int(known[0])
    complete = False
    try:
        for page in _pages(job, record.target.pair, start_ms, end_ms):
            rows += page
        complete = True
    finally:
        if complete or joins:
            record.take(rows)


def _pages(job: _Job, pair: str, start_ms: int, end_ms: int) -> Iterator[list[list[Any]]]:
    """The possible bars of one pair in [start, end), page by page."""
    step, asked_ms = step_ms(job.timeframe), start_ms
    what = f"{job.exchange_id}: {job.timeframe} bars of {pair}"

    def fetch(since: int, count: int) -> list[list[Any]]:
        return job.asking(what, lambda: job.pages.fetch(pair, job.timeframe, since, count, step))

    for page, through_ms in job.pages.read(fetch, start_ms, end_ms, step):
        yield [row for row in page if is_possible(row)]
        job.progress.move(through_ms - asked_ms)
        asked_ms = through_ms
