"""What ``tickless train`` says of a version."""

from __future__ import annotations

import pytest

from tickless.cli.desk_models import chosen_specs
from tickless.cli.training import _outcome
from tickless.settings import load_desk


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


@pytest.mark.parametrize(
    ("overrides", "names", "chosen"),
    [
        ((), None, ["rotation_6h", "rotation_24h"]),
        (("strategy.rotation.model_6h=rotation_24h",), None, ["rotation_24h"]),
        (("strategy.rotation.model_6h=rotation_24h",), ["rotation_6h"], ["rotation_6h"]),
        ((), ["rotation_24h", "rotation_6h"], ["rotation_6h", "rotation_24h"]),
    ],
    ids=["preset", "one_is_named", "another_is_chosen", "both_are_chosen"],
)
def test_commands_take_the_models_that_the_settings_name_or_those_that_are_chosen(overrides, names, chosen) -> None:
    assert [spec.name for spec in chosen_specs(load_desk("rotation", overrides), "rotation", names)] == chosen
