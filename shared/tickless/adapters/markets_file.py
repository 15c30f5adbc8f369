"""``markets.json`` beside the bars: precision, steps and minimum notional by pair, in the shape of ccxt's markets.

``{"BTC/USDT": {"active": true, "precision": {"price": 0.01, "amount": 0.00001}, "limits": {"cost": {"min": 5}, "amount": {"min": 0.1}}}}``
Precisions are step sizes. Whatever is absent, null or (for a limit) zero is no filter; other keys are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn

from tickless.errors import DataError
from tickless.types import PairRules

FILE_NAME = "markets.json"


def read_markets(path: Path) -> dict[str, PairRules]:
    """The filters of every pair in the file, exactly as written. Raises DataError naming file, pair, key and value."""
    try:
        content = json.loads(path.read_bytes(), parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no object of pairs")
    return {pair: _rules(path, pair, entry) for pair, entry in sorted(content.items())}


def read_folder_markets(folder: Path) -> dict[str, PairRules]:
    """The filters of a data folder; empty (no filters) where it has no ``markets.json``. Raises DataError."""
    path = folder / FILE_NAME
    return read_markets(path) if path.exists() else {}


def write_markets(folder: Path, rules: Mapping[str, PairRules]) -> Path:
    """Write ``markets.json`` into a folder and return its path; never leaves half a file."""
    content = {}
    for pair, rule in sorted(rules.items()):
        precision = {"price": rule.price_step, "amount": rule.qty_step}
        limits = {"cost": {"min": rule.min_notional}, "amount": {"min": rule.min_qty}}
        content[pair] = {"active": rule.active, "precision": precision, "limits": limits}
    path = folder / FILE_NAME
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1, default=lambda value: f"{value:f}") + "\n", encoding="utf-8")
    part.replace(path)
    return path


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _rules(path: Path, pair: str, entry: Any) -> PairRules:
    entry = _object(path, f"{pair}", entry)
    precision = _object(path, f"{pair} precision", entry.get("precision"))
    limits = _object(path, f"{pair} limits", entry.get("limits"))
    cost = _object(path, f"{pair} limits.cost", limits.get("cost"))
    amount = _object(path, f"{pair} limits.amount", limits.get("amount"))
    active = entry.get("active")
    if active not in (None, True, False):
        raise DataError(f"{path}: {pair} active: {active!r} is neither true nor false")
    return PairRules(
        pair=pair,
        price_step=_number(path, f"{pair} precision.price", precision.get("price"), zero_is_none=False),
        qty_step=_number(path, f"{pair} precision.amount", precision.get("amount"), zero_is_none=False),
        min_notional=_number(path, f"{pair} limits.cost.min", cost.get("min"), zero_is_none=True),
        min_qty=_number(path, f"{pair} limits.amount.min", amount.get("min"), zero_is_none=True),
        active=active is not False,
    )


def _object(path: Path, key: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(f"{path}: {key}: {value!r} is not an object")
    return value


def _number(path: Path, key: str, value: Any, *, zero_is_none: bool) -> Decimal | None:
    if value is None:
        return None
    try:
        number = Decimal(value) if isinstance(value, str | Decimal) else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0 or (number == 0 and not zero_is_none):
        shown = str(value) if isinstance(value, Decimal) else repr(value)
        raise DataError(f"{path}: {key}: {shown} is not a positive number")
    return number or None
