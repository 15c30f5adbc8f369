"""The bar store in S3: one object a calendar week, read by numpy alone. Why so: ``docs/decisions/0013-bar-store.md``.

A warm process knows what it has read. It asks S3 again only in ``through`` (is there more than I know?) and where it is asked for rows past
what it knows; as a stored value never changes, everything before that is served from memory.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from tickless.adapters.bar_weeks import assemble, merge, monday_ms, split, weeks_between
from tickless.adapters.s3_objects import S3Objects
from tickless.bars import COLUMNS, Panel, step_ms
from tickless.errors import DataError, RetryableError
from tickless.types import from_ms, parse_time, to_ms

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

WRITE_TRIES = 5


@dataclass(frozen=True)
class Week:
    """A week's object as it was last seen."""

    panel: Panel
    backfills: int
    """How often an earlier week was changed since this one began: tells other processes to look at the earlier weeks again."""
    tag: str


@dataclass
class Catalogue:
    """What a process knows of one timeframe."""

    mondays: set[int] | None = None
    """The weeks that exist; None before the first listing."""
    weeks: dict[int, Week] = field(default_factory=dict)

    @property
    def head(self) -> Week | None:
        """The latest week, where it has been read."""
        return self.weeks.get(max(self.mondays)) if self.mondays else None


class S3BarStore:
    """The BarStore port on a bucket. Raises RetryableError, and DataError for an object that is no week of bars."""

    def __init__(self, bucket: str, client: S3Client) -> None:
        self._objects = S3Objects(bucket, client, "bars/")
        self._known: dict[str, Catalogue] = {}

    def through(self, timeframe: str) -> datetime | None:
        """See ``BarStore.through``: one call where nothing new was stored."""
        head = self._look(timeframe)
        return None if head is None else from_ms(head.panel.end_ms)

    def since(self, timeframe: str) -> datetime | None:
        """See ``BarStore.since``: no call in a warm process."""
        known = self._catalogue(timeframe)
        if not known.mondays:
            self._look(timeframe)
        first = self._week(timeframe, min(known.mondays)) if known.mondays else None
        return None if first is None else from_ms(first.panel.start_ms)

    def read(self, timeframe: str, start: datetime, end: datetime) -> Panel:
        """See ``BarStore.read``: no call where the range is known."""
        known = self._catalogue(timeframe)
        if known.head is None or known.head.panel.end_ms < to_ms(end):
            self._look(timeframe)
        mondays = (monday for monday in weeks_between(to_ms(start), to_ms(end)) if monday in (known.mondays or ()))
        weeks = (self._week(timeframe, monday) for monday in mondays)
        return assemble(timeframe, (week.panel for week in weeks if week is not None), start, end)

    def write(self, panel: Panel) -> None:
        """See ``BarStore.write``: one conditional PUT a week that changes. Raises RetryableError when others keep changing it, too."""
        known = self._catalogue(panel.timeframe)
        if known.mondays is None:
            self._look(panel.timeframe)
        head = max(known.mondays, default=None) if known.mondays else None
        changed = [monday for monday, part in split(panel) if self._store(panel.timeframe, monday, part)]
        if head is not None and any(monday < head for monday in changed):
            self._tell_of_backfill(panel.timeframe, max(known.mondays or {head}))

    def _look(self, timeframe: str) -> Week | None:
        """Bring the latest week up to date: a conditional GET, or a listing where a new week may have begun."""
        known = self._catalogue(timeframe)
        head = known.head
        if head is None or monday_ms(head.panel.end_ms) == head.panel.end_ms:
            self._list(timeframe)
            if not known.mondays:
                return None
            return self._week(timeframe, max(known.mondays))
        monday = max(known.mondays or ())
        if self._fetch(timeframe, monday, head.tag) and known.weeks[monday].backfills != head.backfills:
            self._list(timeframe)
        return known.head

    def _list(self, timeframe: str) -> None:
        """Learn which weeks exist, and forget those that have changed."""
        known = self._catalogue(timeframe)
        listed = {_monday_of(key): tag for key, tag in self._objects.tags(f"{timeframe}/").items()}
        known.mondays = set(listed)
        known.weeks = {monday: week for monday, week in known.weeks.items() if listed.get(monday) == week.tag}

    def _week(self, timeframe: str, monday: int) -> Week | None:
        known = self._catalogue(timeframe)
        if monday not in known.weeks:
            self._fetch(timeframe, monday, None)
        return known.weeks.get(monday)

    def _fetch(self, timeframe: str, monday: int, tag: str | None) -> bool:
        """Read a week unless it still has ``tag``; False where there was nothing to read."""
        key = _key(timeframe, monday)
        found = self._objects.get(key) if tag is None else self._objects.get_changed(key, tag)
        if found is None:
            return False
        self._remember(timeframe, monday, _unpack(found[0], found[1], f"bars/{key}"))
        return True

    def _store(self, timeframe: str, monday: int, part: Panel) -> bool:
        """Merge rows into a week; False where they add nothing."""
        known = self._catalogue(timeframe)
        for _ in range(WRITE_TRIES):
            may_exist = known.mondays is None or monday in known.mondays
            stored = self._week(timeframe, monday) if may_exist else None
            merged = merge(stored.panel if stored else None, part)
            if merged is None:
                return False
            backfills = stored.backfills if stored else known.head.backfills if known.head else 0
            if self._put(timeframe, monday, merged, backfills, stored.tag if stored else None):
                return True
        raise RetryableError(f"bars/{_key(timeframe, monday)}: changed by others {WRITE_TRIES} times in a row; these bars were not stored")

    def _tell_of_backfill(self, timeframe: str, monday: int) -> None:
        for _ in range(WRITE_TRIES):
            week = self._week(timeframe, monday)
            if week is None or self._put(timeframe, monday, week.panel, week.backfills + 1, week.tag):
                return
        raise RetryableError(f"bars/{_key(timeframe, monday)}: changed by others {WRITE_TRIES} times in a row")

    def _put(self, timeframe: str, monday: int, panel: Panel, backfills: int, tag: str | None) -> bool:
        """Put a week on condition of its tag. Where that fails, forget what we knew of it: it exists, and has changed."""
        new_tag = self._objects.put_tagged(_key(timeframe, monday), _pack(panel, backfills), tag)
        known = self._catalogue(timeframe)
        if new_tag is None:
            known.weeks.pop(monday, None)
            if known.mondays is not None:
                known.mondays.add(monday)
            return False
        self._remember(timeframe, monday, Week(panel, backfills, new_tag))
        return True

    def _remember(self, timeframe: str, monday: int, week: Week) -> None:
        known = self._catalogue(timeframe)
        if known.mondays is not None:
            known.mondays.add(monday)
        known.weeks[monday] = week

    def _catalogue(self, timeframe: str) -> Catalogue:
        step_ms(timeframe)
        return self._known.setdefault(timeframe, Catalogue())


def _key(timeframe: str, monday: int) -> str:
    return f"{timeframe}/{from_ms(monday):%Y-%m-%d}.npz"


def _monday_of(key: str) -> int:
    try:
        return to_ms(parse_time(key.rpartition("/")[2].removesuffix(".npz") + "T00:00:00Z"))
    except ValueError as error:
        raise DataError(f"bars/{key}: not the name of a week of bars") from error


def _pack(panel: Panel, backfills: int) -> bytes:
    """The week as an npz file. The same week gives the same bytes: numpy stamps no time into it."""
    file = io.BytesIO()
    np.savez(
        file,
        allow_pickle=False,
        timeframe=np.asarray(panel.timeframe),
        pairs=np.asarray(panel.pairs, dtype=np.str_),
        start_ms=np.asarray(panel.start_ms, dtype=np.int64),
        backfills=np.asarray(backfills, dtype=np.int64),
        **{name: getattr(panel, name) for name in COLUMNS},
    )
    return file.getvalue()


def _unpack(content: bytes, tag: str, what: str) -> Week:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            pairs = tuple(str(pair) for pair in file["pairs"])
            columns = {name: file[name].astype(np.float64, copy=False) for name in COLUMNS}
            panel = Panel(str(file["timeframe"]), pairs, int(file["start_ms"]), **columns)
            return Week(panel, int(file["backfills"]), tag)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(f"{what}: not a week of bars: {error}") from error
