"""What every store of experience promises, and what its rows look like to whoever reads them with another tool."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from desk_values import BUCKET

from tickless.adapters.experience_archive import MemoryExperience, encode_day, s3_experience
from tickless.backtest.memory import RunExperience
from tickless.errors import DataError
from tickless.learn.experience import ExperienceDay, Said, TickExperience
from tickless.ports import ExperienceStore

DAY = date(2024, 6, 1)
AT = datetime(2024, 6, 1, 0, 30, tzinfo=UTC)
NAN = float("nan")
KEYS = [
    "tick_at",
    "strategy",
    "pair",
    "model",
    "version",
    "stage",
    "horizon_h",
    "forecast",
    "probability",
    "action",
    "reason",
    "score",
    "confidence",
    "outcome",
    "outcome_scaled",
    "won",
    "outcome_until",
    "features",
]


def a_tick(hours: float = 0.0) -> TickExperience:
    at = AT + timedelta(hours=hours)
    until_ms = int(at.timestamp() * 1000) + 6 * 3_600_000 + 900_000
    none = np.array([NAN, NAN])
    champion = Said("rotation_6h", "v1", "champion", 6.0, np.array([0.1 + 0.2, NAN]), none, np.array([0.01, -0.02]), none, until_ms, none)
    shadow = Said(
        "rotation_6h", "v2", "shadow", 6.0, np.array([-0.5, 1e-9]), np.array([0.25, 0.75]), none, none, until_ms, np.array([1.0, NAN])
    )
    nobody = Said("rotation_24h", "", "", 24.0, none, none, np.array([1.0, 2.0]), none, until_ms, none)
    decisions = {"AAA/USDT": {"action": "buy", "reason": "models_chop", "score": 0.3, "net": 0.29, "confidence": 0.9}}
    return TickExperience(
        at, ("AAA/USDT", "BBB/USDT"), ("r_6h", "rsi14"), np.array([[0.1, NAN], [1 / 3, 55.0]]), (champion, shadow, nobody), decisions
    )


MADE = ExperienceDay("rotation", DAY, (a_tick(), a_tick(0.5)))


@pytest.fixture(params=["memory", "s3", "run"])
def store(request: pytest.FixtureRequest) -> ExperienceStore:
    if request.param == "run":
        return RunExperience()
    return MemoryExperience() if request.param == "memory" else s3_experience(BUCKET, request.getfixturevalue("s3"))


def plain(day: ExperienceDay | None) -> list[str]:
    """A day as text, without the decisions, which a run does not keep."""
    assert day is not None
    ticks = tuple(replace(tick, decisions={}) for tick in day.ticks)
    return list(encode_day(replace(day, ticks=ticks)))


def test_a_day_is_read_back_to_the_last_digit(store: ExperienceStore) -> None:
    assert store.days("rotation") == []
    assert store.read("rotation", DAY) is None
    assert store.write(MADE)
    assert plain(store.read("rotation", DAY)) == plain(MADE)
    assert store.days("rotation") == [DAY]
    assert store.days("crossover") == []


def test_a_day_is_written_once(store: ExperienceStore) -> None:
    assert store.write(MADE)
    assert not store.write(ExperienceDay("rotation", DAY, MADE.ticks[:1]))
    assert plain(store.read("rotation", DAY)) == plain(MADE)


def test_days_come_in_order_and_each_strategy_has_its_own(store: ExperienceStore) -> None:
    for offset in (1, 0, 2):
        store.write(ExperienceDay("rotation", DAY + timedelta(days=offset), MADE.ticks))
    store.write(ExperienceDay("crossover", DAY, MADE.ticks))
    assert store.days("rotation") == [DAY, DAY + timedelta(days=1), DAY + timedelta(days=2)]


def test_rows_are_flat_json_lines_with_null_for_what_there_is_not() -> None:
    store = MemoryExperience()
    store.write(MADE)
    (content,) = store.objects.contents.values()
    rows = [json.loads(line) for line in gzip.decompress(content).decode().splitlines()]
    assert list(store.objects.contents) == ["rotation/2024-06-01.jsonl.gz"]
    assert len(rows) == 2 * 3 * 2
    assert all(list(row) == KEYS for row in rows)
    first, second = rows[:2]
    assert (first["pair"], first["forecast"], first["action"], first["confidence"]) == ("AAA/USDT", 0.1 + 0.2, "buy", 0.9)
    assert first["features"] == {"r_6h": 0.1, "rsi14": None}
    assert (second["forecast"], second["action"], second["probability"]) == (None, None, None)
    assert (rows[4]["version"], rows[4]["outcome"]) == (None, 1.0)
    assert [row["won"] for row in rows[:6]] == [None, None, True, None, None, None]
    assert rows[0]["outcome_until"] == "2024-06-01T06:45:00Z"


def test_a_day_from_before_events_were_stored_is_read_and_nobody_knows_them() -> None:
    store = MemoryExperience()
    rows = [json.loads(line) for line in encode_day(MADE)]
    old = "".join(json.dumps({key: value for key, value in row.items() if key != "won"}) + "\n" for row in rows)
    store.objects.contents["rotation/2024-06-01.jsonl.gz"] = gzip.compress(old.encode(), mtime=0)
    read = store.read("rotation", DAY)
    assert read is not None
    assert all(np.isnan(said.won).all() for tick in read.ticks for said in tick.said)
    assert np.array_equal(read.ticks[0].said[1].probability, [0.25, 0.75])


def test_the_same_day_gives_the_same_bytes() -> None:
    one, two = MemoryExperience(), MemoryExperience()
    one.write(MADE)
    two.write(MADE)
    assert one.objects.contents == two.objects.contents


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing at all"),
        pytest.param(b"no gzip", id="no gzip"),
        pytest.param(gzip.compress(b"{}\n", mtime=0), id="a row without keys"),
        pytest.param(gzip.compress(b"[1]\n", mtime=0), id="a row that is a list"),
        pytest.param(gzip.compress(b"{", mtime=0), id="half a row"),
        pytest.param(gzip.compress(b"[" * 100_000, mtime=0), id="rows in rows without end"),
        pytest.param(b"\x1f\x8b\x08", id="half a header"),
    ],
)
def test_an_object_that_is_no_day_is_refused(content: bytes) -> None:
    store = MemoryExperience()
    store.objects.contents["rotation/2024-06-01.jsonl.gz"] = content
    with pytest.raises(DataError, match=r"experience rotation/2024-06-01\.jsonl\.gz"):
        store.read("rotation", DAY)


def test_a_day_without_a_tick_is_read_back() -> None:
    store = MemoryExperience()
    store.write(ExperienceDay("rotation", DAY, ()))
    read = store.read("rotation", DAY)
    assert read is not None
    assert read.ticks == ()


def test_pyarrow_reads_a_day_as_a_table() -> None:
    """What Athena and DuckDB do: read_json of the gzipped file, one column a key, the features as a struct."""
    import io

    from pyarrow import json as arrow

    store = MemoryExperience()
    store.write(MADE)
    (content,) = store.objects.contents.values()
    table = arrow.read_json(io.BytesIO(gzip.decompress(content)))
    assert table.column_names == KEYS
    assert table.column("features").type.num_fields == 2
    assert table.column("forecast").to_pylist()[:2] == [0.1 + 0.2, None]
