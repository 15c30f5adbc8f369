"""The name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one; empty where none is like it."""
    found = get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    return found[0] if found else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'binance'?``, to be put behind an error's sentence; empty where no known name is like this one."""
    near = nearest_name(name, known)
    return f"; did you mean {near!r}?" if near else ""
