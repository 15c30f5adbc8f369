"""One exchange of ccxt is imported without the others, and unknown ones are refused."""

import subprocess
import sys

import pytest

from tickless.adapters.ccxt_client import ask, exchange_class
from tickless.adapters.ccxt_market import _step
from tickless.errors import SettingsError

PROGRAM = """
import sys
from tickless.adapters.ccxt_client import exchange_class
found = exchange_class("binance")
others = [name for name in sys.modules if name in ("ccxt.kraken", "ccxt.okx", "ccxt.bybit", "ccxt")]
assert not others, others
import ccxt
assert ccxt.binance is found
assert issubclass(ccxt.NetworkError, Exception) and ccxt.NetworkError is sys.modules["ccxt.base.errors"].NetworkError
assert exchange_class("kraken") is ccxt.kraken
print("well")
"""


def test_no_other_exchange_is_imported_and_the_whole_package_still_can_be():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.returncode) == ("well", 0), done.stderr


@pytest.mark.parametrize("exchange_id", ["nowhere", "base", "../binance", "", "Binance"])
def test_an_exchange_ccxt_does_not_know_is_refused(exchange_id):
    with pytest.raises(SettingsError, match=r"desk.exchange: .* is no exchange that ccxt knows"):
        exchange_class(exchange_id)


def test_no_attempts_at_all_is_a_mistake():
    with pytest.raises(ValueError, match="attempts 0"):
        ask("x", lambda: 1, attempts=0, backoff_s=0, sleep=lambda seconds: None)


@pytest.mark.parametrize(
    ("value", "mode", "step"),
    [(1e-05, 4, "0.00001"), (2, 2, "0.01"), (0, 2, "1"), (-1, 2, "10"), (5, 3, None), (None, 4, None), (0, 4, None)],
)
def test_precisions_of_every_mode_become_steps(value, mode, step):
    got = _step(value, mode)
    assert (None if got is None else f"{got:f}") == step
