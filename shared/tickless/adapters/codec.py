"""Domain values as DynamoDB attribute values, and back, bit for bit.

One codec a dataclass, derived once from its type hints: a field added to a domain type is stored without a change here, and an item that
was written before the field existed reads back with the field's default.

Money and floats are stored as text. A DynamoDB number drops trailing zeros (``1.50`` comes back as ``1.5``), so one fill would print
differently in the cloud than in memory; text keeps every digit. ``repr`` of a float is its shortest exact form (Python tutorial, 15).
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from math import isfinite
from typing import Any, TypeVar, cast

from tickless.errors import LedgerError
from tickless.types import parse_time, utc

T = TypeVar("T")

Attribute = dict[str, Any]
"""A DynamoDB attribute value as the low-level client writes it: ``{"S": "text"}``."""

MAX_DIGITS = 38
"""Significant digits of a DynamoDB number. Kept although money is text, so that the table may move to numbers."""

MAX_ITEM_BYTES = 400_000
"""A little less than DynamoDB's 400 KB, as our count of an item's size is an estimate."""


@dataclass(frozen=True)
class Codec:
    """How values of one type are written and read."""

    encode: Callable[[Any], Attribute]
    decode: Callable[[Attribute], Any]


def check_decimal(value: Decimal, where: str) -> None:
    """Raise LedgerError for a Decimal that is not finite or has more than 38 significant digits."""
    if not value.is_finite():
        raise LedgerError(f"{where}: {value} is not a finite number")
    if len(value.as_tuple().digits) > MAX_DIGITS:
        raise LedgerError(f"{where}: {value} has more than {MAX_DIGITS} significant digits")


def time_text(value: datetime) -> str:
    """A time of fixed width (microseconds, ``Z``): text order is time order, so keys are made of it."""
    return utc(value).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def json_text(value: Any, where: str) -> str:
    """JSON with sorted keys; raises LedgerError for NaN and for what JSON cannot say."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise LedgerError(f"{where}: cannot be written as JSON: {error}") from error


def encode(value: Any) -> dict[str, Attribute]:
    """The attributes of a dataclass value; raises LedgerError naming the type and field of a value that cannot be stored."""
    item: dict[str, Attribute] = {}
    for entry, codec in _codecs(cast(Any, type(value))):
        content = getattr(value, entry.name)
        if content is None:
            if entry.default is not None:
                item[entry.name] = {"NULL": True}
            continue
        try:
            item[entry.name] = codec.encode(content)
        except LedgerError as error:
            raise LedgerError(f"{type(value).__name__}.{entry.name}: {error}") from error
    return item


def decode(kind: type[T], item: Mapping[str, Any]) -> T:
    """A value of ``kind`` from its attributes; attributes it does not know are ignored.

    Raises LedgerError naming the field that is missing or cannot be read.
    """
    content: dict[str, Any] = {}
    for entry, codec in _codecs(cast(Any, kind)):
        attribute = item.get(entry.name)
        if attribute is None:
            if entry.default is MISSING and entry.default_factory is MISSING:
                raise LedgerError(f"{kind.__name__}.{entry.name}: missing in the stored item")
            continue
        try:
            content[entry.name] = None if attribute.get("NULL") else codec.decode(attribute)
        except (KeyError, ValueError, ArithmeticError) as error:
            raise LedgerError(f"{kind.__name__}.{entry.name}: cannot read {attribute!r}") from error
    return kind(**content)


def item_bytes(item: Mapping[str, Attribute]) -> int:
    """The size DynamoDB counts for an item: UTF-8 bytes of names and values, and its overhead for lists and maps."""
    return sum(len(name.encode()) + _attribute_bytes(attribute) for name, attribute in item.items())


def _attribute_bytes(attribute: Attribute) -> int:
    kind, value = next(iter(attribute.items()))
    if kind in ("S", "N"):
        return len(value.encode())
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + _attribute_bytes(part) for name, part in value.items())
    if kind == "L":
        return 3 + sum(1 + _attribute_bytes(part) for part in value)
    return 1


@cache
def _codecs(kind: type) -> tuple[tuple[Field[Any], Codec], ...]:
    hints = typing.get_type_hints(kind)
    return tuple((entry, _codec(hints[entry.name])) for entry in fields(kind))


def _codec(hint: Any) -> Codec:
    """The codec of a type hint; raises TypeError for a type the ledger does not know."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (part for part in arguments if part is not types.NoneType)
        return _codec(inner)
    if origin is tuple and arguments[1:] == (...,):
        part = _codec(arguments[0])
        return Codec(lambda v: {"L": [part.encode(x) for x in v]}, lambda a: tuple(part.decode(x) for x in a["L"]))
    if origin is Mapping:
        return _mapping_codec(arguments[1])
    if is_dataclass(hint) and isinstance(hint, type):
        return Codec(lambda v: {"M": encode(v)}, lambda a: decode(hint, a["M"]))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return Codec(lambda v: {"S": v.value}, lambda a: hint(a["S"]))
    return _SCALARS[hint]


def _mapping_codec(value_hint: Any) -> Codec:
    """Text to anything is stored as JSON, text to one type as a map."""
    if value_hint is Any:
        return Codec(lambda v: {"S": json_text(v, "value")}, lambda a: json.loads(a["S"]))
    part = _codec(value_hint)
    return Codec(
        lambda v: {"M": {name: part.encode(v[name]) for name in sorted(v)}},
        lambda a: {name: part.decode(a["M"][name]) for name in sorted(a["M"])},
    )


def _encode_decimal(value: Decimal) -> Attribute:
    check_decimal(value, "value")
    return {"S": str(value)}


def _encode_float(value: float) -> Attribute:
    if not isfinite(value):
        raise LedgerError(f"value {value} is not a finite number")
    return {"S": float.__repr__(float(value))}


_SCALARS: Mapping[Any, Codec] = {
    str: Codec(lambda v: {"S": v}, lambda a: a["S"]),
    bool: Codec(lambda v: {"BOOL": v}, lambda a: a["BOOL"]),
    int: Codec(lambda v: {"N": str(v)}, lambda a: int(a["N"])),
    float: Codec(_encode_float, lambda a: float(a["S"])),
    Decimal: Codec(_encode_decimal, lambda a: Decimal(a["S"])),
    datetime: Codec(lambda v: {"S": time_text(v)}, lambda a: parse_time(a["S"])),
}
