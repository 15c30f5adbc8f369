"""What ``tickless train`` says of a version."""

from __future__ import annotations

import pytest

from tickless.cli.training import _outcome


@pytest.mark.parametrize(
    ("champion", "passed", "line"),
    [
        (True, True, "promoted"),
        (False, False, "registered, not promoted"),
        # Trained again after somebody promoted it against its gates: it is champion, and not by them.
        (True, False, "champion by hand, its gates would not promote it"),
    ],
)
def test_a_version_is_not_called_promoted_by_gates_that_refuse_it(champion: bool, passed: bool, line: str) -> None:
    assert _outcome({"promoted": champion, "passed_gates": passed}) == line
