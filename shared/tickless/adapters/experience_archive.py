"""Experience over an object store: one gzipped JSON Lines object a strategy and day, written once; S3 and memory share it.

Layout: ``<strategy>/<YYYY-MM-DD>.jsonl.gz``, one flat row a pair, tick and model. Athena, DuckDB and a text editor read it as it is.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import groupby
from math import isfinite
from typing import TYPE_CHECKING, Any

from tickless.adapters.object_store import MemoryObjects, ObjectStore
from tickless.errors import DataError
from tickless.learn.experience import ExperienceDay, Said, TickExperience, numbers
from tickless.types import from_ms, iso, parse_time, to_ms

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

SUFFIX = ".jsonl.gz"
_LEVEL = 6
"""Of gzip: nine takes three times as long for two per cent."""


class ExperienceArchive:
    """The ExperienceStore port over an object store."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def write(self, day: ExperienceDay) -> bool:
        """See ``ExperienceStore.write``. The same day gives the same bytes."""
        text = "".join(f"{line}\n" for line in encode_day(day))
        return self._objects.put_if(_key(day.strategy, day.day), gzip.compress(text.encode(), _LEVEL, mtime=0), None)

    def read(self, strategy: str, day: date) -> ExperienceDay | None:
        """See ``ExperienceStore.read``."""
        key = _key(strategy, day)
        found = self._objects.get(key)
        if found is None:
            return None
        if not found[0]:
            raise DataError(f"experience {key}: cannot be read: the object is empty")  # gzip would call it no text
        try:
            return decode_day(strategy, day, gzip.decompress(found[0]).decode().splitlines())
        except (OSError, EOFError, LookupError, TypeError, ValueError, AttributeError, RecursionError, zlib.error) as error:
            raise DataError(f"experience {key}: cannot be read: {error!r}") from error

    def days(self, strategy: str) -> Sequence[date]:
        """See ``ExperienceStore.days``."""
        names = (key.rpartition("/")[2].removesuffix(SUFFIX) for key in self._objects.keys(f"{strategy}/") if key.endswith(SUFFIX))
        return sorted(day for name in names if (day := _day_of(name)) is not None)


class MemoryExperience(ExperienceArchive):
    """The ExperienceStore port in memory; ``objects.contents`` holds what S3 would."""

    def __init__(self) -> None:
        self.objects = MemoryObjects()
        super().__init__(self.objects)


def s3_experience(bucket: str, client: S3Client) -> ExperienceArchive:
    """The ExperienceStore port on a bucket, below ``experience/``."""
    from tickless.adapters.s3_objects import S3Objects

    return ExperienceArchive(S3Objects(bucket, client, "experience/"))


def encode_day(day: ExperienceDay) -> Iterator[str]:
    """The rows of a day as JSON, by tick, model and pair. Numbers keep every digit, what is not finite is null."""
    for tick in day.ticks:
        # Most of a row are its features, and every model of the tick has the same.
        seen = [_dump(dict(zip(tick.feature_names, map(_number, row), strict=True))) for row in tick.features.tolist()]
        for said in tick.said:
            head = {"model": said.model or None, "version": said.version or None, "stage": said.stage or None, "horizon_h": said.horizon_h}
            columns = (said.forecast, said.probability, said.outcome, said.scaled, said.won)
            for pair, features, *values in zip(tick.pairs, seen, *(column.tolist() for column in columns), strict=True):
                forecast, probability, outcome, scaled, won = map(_number, values)
                row = {"tick_at": iso(tick.at), "strategy": day.strategy, "pair": pair, **head}
                row |= {"forecast": forecast, "probability": probability, **_decided(tick.decisions.get(pair, {}))}
                row |= {"outcome": outcome, "outcome_scaled": scaled, "won": None if won is None else bool(won)}
                row["outcome_until"] = iso(from_ms(said.until_ms))
                yield f'{_dump(row)[:-1]},"features":{features}}}'


def decode_day(strategy: str, day: date, lines: Iterable[str]) -> ExperienceDay:
    """The day that ``encode_day`` wrote; raises KeyError, TypeError or ValueError for anything else."""
    rows = [json.loads(line) for line in lines]
    return ExperienceDay(strategy, day, tuple(_tick(list(group)) for _, group in groupby(rows, lambda row: row["tick_at"])))


def _tick(rows: Sequence[Mapping[str, Any]]) -> TickExperience:
    models = [list(group) for _, group in groupby(rows, lambda row: (row["model"], row["version"]))]
    first = models[0]
    names = tuple(first[0]["features"])
    return TickExperience(
        at=parse_time(first[0]["tick_at"]),
        pairs=tuple(row["pair"] for row in first),
        feature_names=names,
        features=numbers([[row["features"][name] for name in names] for row in first]),
        said=tuple(_said(group) for group in models),
        decisions={row["pair"]: {key: row[key] for key in ("action", "reason", "score", "confidence")} for row in first},
    )


def _said(rows: Sequence[Mapping[str, Any]]) -> Said:
    forecast, probability, outcome, scaled = (
        numbers([row[key] for row in rows]) for key in ("forecast", "probability", "outcome", "outcome_scaled")
    )
    won = numbers([row.get("won") for row in rows])  # Days from before there was this column lack it: nobody knows.
    head = rows[0]
    until_ms = to_ms(parse_time(head["outcome_until"]))
    who = (head["model"] or "", head["version"] or "", head["stage"] or "")
    return Said(*who, float(head["horizon_h"]), forecast, probability, outcome, scaled, until_ms, won)


def _decided(decision: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: _number(float(value)) for key in ("score", "confidence") if (value := decision.get(key)) is not None}
    return {"action": decision.get("action"), "reason": decision.get("reason"), "score": None, "confidence": None, **values}


def _day_of(name: str) -> date | None:
    """The day that an object is of; None of one that somebody else has put there."""
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None


def _number(value: float) -> float | None:
    return value if isfinite(value) else None


def _dump(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def _key(strategy: str, day: date) -> str:
    return f"{strategy}/{day.isoformat()}{SUFFIX}"
