"""docs/orders.md names a test for every failure: they exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_table_names_exists() -> None:
    named = set(re.findall(r"`((?:test_|Test)\w+)`", (ROOT / "docs" / "orders.md").read_text("utf8")))
    sources = "\n".join(path.read_text("utf8") for path in sorted((ROOT / "tests").rglob("test_*.py")))
    written = set(re.findall(r"^ *(?:def |class )?((?:test_|Test)\w+)(?:\(| =)", sources, re.MULTILINE))
    assert len(named) > 30
    assert sorted(named - written) == []
