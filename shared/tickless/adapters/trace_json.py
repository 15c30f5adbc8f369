"""A trace as JSON text: the same content gives the same text, and what JSON has no word for is written in the nearest plain form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from decimal import Decimal
from math import isfinite
from typing import Any

from tickless.types import iso


def trace_text(content: Mapping[str, Any]) -> str:
    """JSON with sorted keys. Times become ISO 8601, Decimals plain text, dataclasses objects, and NaN and infinity null."""
    try:
        return _dump(content)
    except ValueError:
        return _dump(_finite(content))


def _dump(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return iso(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _finite(asdict(value))
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return _finite(dict(value))
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    raise TypeError(f"a trace cannot hold a {type(value).__name__}")


def _finite(value: Any) -> Any:
    """The value with every float that is not finite replaced by None."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
