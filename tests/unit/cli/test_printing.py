"""How numbers look to people."""

import pytest

from tickless.backtest.report_tables import share
from tickless.cli.printing import percent


@pytest.mark.parametrize(
    ("frac", "line", "cell"),
    [
        (-0.00001, "0.00 %", "0.00 %"),
        (0.00001, "0.00 %", "0.00 %"),
        (-0.0, "0.00 %", "0.00 %"),
        (-0.0001, "-0.01 %", "−0.01 %"),
        (0.1, "+10.00 %", "+10.00 %"),
        (-12.0, "-1200.00 %", "−1,200 %"),
    ],
    ids=["little_lost", "little_won", "nothing", "lost", "won", "much"],
)
def test_what_rounds_to_nothing_has_no_sign(frac: float, line: str, cell: str) -> None:
    assert percent(frac) == line
    assert share(frac, plus=True) == cell
