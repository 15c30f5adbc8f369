"""markets.json: the exchange's filters by pair."""

import json
from decimal import Decimal

import pytest

from tickless.adapters.markets_file import read_folder_markets, read_markets, write_markets
from tickless.errors import DataError
from tickless.types import PairRules


def write(folder, content):
    path = folder / "markets.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_reads_ccxt_markets_exactly(tmp_path):
    entry = {
        "active": True,
        "precision": {"price": 0.01, "amount": 1e-05},
        "limits": {"cost": {"min": 5}, "amount": {"min": "0.0001"}},
        "info": {},
    }
    rules = read_markets(write(tmp_path, {"BTC/USDT": entry, "OLD/USDT": {"active": False}}))
    assert rules["BTC/USDT"] == PairRules("BTC/USDT", Decimal("0.01"), Decimal("0.00001"), Decimal(5), Decimal("0.0001"))
    assert rules["OLD/USDT"] == PairRules("OLD/USDT", active=False)


def test_null_and_a_zero_limit_are_no_filter(tmp_path):
    entry = {"precision": {"price": None}, "limits": {"cost": {"min": 0}, "amount": None}}
    assert read_markets(write(tmp_path, {"A/USDT": entry})) == {"A/USDT": PairRules("A/USDT")}


def test_nesting_beyond_python_s_is_refused_by_file(tmp_path):
    with pytest.raises(DataError, match=r"markets.json: not readable as JSON: "):
        read_markets(write(tmp_path, "[" * 100_000))


def test_what_is_written_is_read_back(tmp_path):
    rules = {
        "A/USDT": PairRules("A/USDT", Decimal("1E-10"), Decimal(1), Decimal(5), None, active=False),
        "B/USDT": PairRules("B/USDT", Decimal("0.1"), Decimal("0.00001"), None, Decimal("0.001")),
    }
    write_markets(tmp_path, rules)
    assert read_folder_markets(tmp_path) == rules
    assert [path.name for path in tmp_path.iterdir()] == ["markets.json"]


def test_a_folder_without_the_file_has_no_filters(tmp_path):
    assert read_folder_markets(tmp_path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "markets.json: not readable as JSON"),
        ('{"A/USDT": {"precision": {"price": NaN}}}', "NaN is no number"),
        ([], "holds no object of pairs"),
        ({"A/USDT": 1}, "A/USDT: .* is not an object"),
        ({"A/USDT": {"precision": {"price": 0}}}, "A/USDT precision.price: 0 is not a positive number"),
        ({"A/USDT": {"precision": {"amount": "fine"}}}, "A/USDT precision.amount: 'fine' is not a positive number"),
        ({"A/USDT": {"limits": {"cost": {"min": -5}}}}, "A/USDT limits.cost.min: -5 is not a positive number"),
        ({"A/USDT": {"limits": {"amount": {"min": True}}}}, "A/USDT limits.amount.min: True is not a positive number"),
        ({"A/USDT": {"limits": {"amount": 5}}}, "A/USDT limits.amount: .* is not an object"),
        ({"A/USDT": {"active": "yes"}}, "A/USDT active: 'yes' is neither true nor false"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_markets(write(tmp_path, content))
