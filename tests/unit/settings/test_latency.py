"""An order must live long enough to reach a bar it can fill at."""

import pytest

from tickless.errors import SettingsError
from tickless.settings import load_desk


def test_a_timeout_before_the_first_chance_is_refused():
    with pytest.raises(SettingsError, match=r"unfilled_timeout_s: 900 ends before .* 900 s after the tick"):
        load_desk("rotation", ["execution.latency_s=60", "execution.unfilled_timeout_s=900"])


def test_a_timeout_behind_the_first_chance_is_fine():
    assert load_desk("rotation", ["execution.latency_s=60", "execution.unfilled_timeout_s=901"]).execution.latency_s == 60
    assert load_desk("rotation", ["execution.unfilled_timeout_s=60"]).execution.latency_s == 0
