"""Requests, answers, and JSON that keeps every digit: a Decimal is written as it stands, never through a float."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

_NUMBER = re.compile(r"-?\d+\.\d+")


@dataclass(frozen=True)
class Request:
    """As it came over the wire; ``query`` and ``body`` as sent."""

    method: str
    path: str
    query: str = ""
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""

    @property
    def endpoint(self) -> str:
        return f"{self.method} {self.path}"

    @cached_property
    def params(self) -> dict[str, str]:
        """Of query and body, decoded, without the signature."""
        pairs = parse_qsl("&".join(part for part in (self.query, self.body) if part), keep_blank_values=True)
        return {name: value for name, value in pairs if name != "signature"}

    @cached_property
    def literal_params(self) -> dict[str, str]:
        """Decoded from whichever part carries them; for APIs that sign the decoded text."""
        text = self.query if self.method == "GET" else self.body
        return {unquote_plus(name): unquote_plus(value) for name, _, value in (one.partition("=") for one in text.split("&") if one)}


@dataclass(frozen=True)
class Answer:
    """``body`` is what JSON can say, with Decimals; ``accepted`` is whether the exchange did what was asked."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    accepted: bool = True


class ApiError(Exception):
    """An error answer of Binance."""

    def __init__(self, code: int, msg: str, status: int = 400) -> None:
        super().__init__(msg)
        self.code, self.msg, self.status = code, msg, status


@dataclass(frozen=True)
class Raw:
    """Text that goes into JSON as it is."""

    text: str


NAN = Raw("NaN")


def encode(value: Any) -> str:
    """JSON text."""
    try:
        return json.dumps(value, separators=(",", ":"))
    except TypeError:  # Decimals are in it.
        return _encode(value)


def _encode(value: Any) -> str:
    match value:
        case Raw():
            return value.text
        case Decimal():
            return f"{value.normalize():f}" if value else "0"
        case Mapping():
            return "{" + ",".join(f"{json.dumps(str(name))}:{_encode(one)}" for name, one in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_encode, value)) + "]"
        case _:
            return json.dumps(value)


def with_strings(value: Any) -> Any:
    """Every number as a string."""
    if isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool)):
        return encode(value)
    return _each(value, with_strings)


def with_nan(value: Any) -> Any:
    """NaN for every number with a fraction, written as a number or as a string; ids and times are whole and stay."""
    if isinstance(value, Decimal):
        return NAN
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return "NaN"
    return _each(value, with_nan)


def without(value: Any, name: str) -> Any:
    """No field of that name, at any depth."""
    if isinstance(value, Mapping):
        return {key: without(one, name) for key, one in value.items() if key != name}
    return _each(value, lambda one: without(one, name))


def any_field(value: Any, where: float) -> str:
    """The name of a field at any depth, ``where`` (0 to 1) of the way through all of them by name; "" where there is none."""
    names: set[str] = set()

    def note(part: Any) -> Any:
        names.update(part if isinstance(part, Mapping) else ())
        return _each(part, note)

    note(value)
    return sorted(names)[int(where * len(names))] if names else ""


def with_pair(value: Any, pair: str) -> Any:
    """Another pair wherever a field names one."""
    if isinstance(value, Mapping):
        return {key: pair if key in {"symbol", "Pair"} else with_pair(one, pair) for key, one in value.items()}
    return _each(value, lambda one: with_pair(one, pair))


def _each(value: Any, change: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: change(one) for name, one in value.items()}
    return [change(one) for one in value] if isinstance(value, list | tuple) else value
