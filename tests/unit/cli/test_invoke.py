"""``tickless invoke``: one deployed function by hand, with the exit codes of its errors."""

import json
from datetime import timedelta

import pytest

from tickless.cli.invoking import failure
from tickless.errors import ArtifactError, EventError, ExchangeError, LeaseHeldError, RefusedError, StaleTickError, TicklessError
from tickless.types import parse_time

AT = "2024-06-01T06:00:00Z"


def test_deployed_prints_the_answer_and_the_log(tickless, deployed, event):
    deployed.wiring.clock.set(parse_time(AT) + timedelta(seconds=1))
    file = event({"scheduled_time": AT})
    done = tickless.json("invoke", "full_rebalance", "--event", file)
    assert done["function"] == "full_rebalance"
    assert done["answer"]["ran"] == [f"{AT}#risk_check", f"{AT}#full_rebalance"]
    assert done["error"] is None
    assert done["metrics"]["Equity"] == pytest.approx(50_000, rel=0.01)
    assert done["metrics"]["OrdersSent"] == done["answer"]["orders"] > 0
    assert json.loads(done["logs"][-1])["tick_id"] == f"{AT}#full_rebalance"
    assert len(list(deployed.adapters.ledger.orders())) == done["answer"]["orders"]
    again = tickless("invoke", "full_rebalance", "--event", file)
    assert '"status": "already_done"' in again.stdout


def test_deployed_reads_the_event_from_stdin(tickless, deployed):
    deployed.wiring.clock.set(parse_time("2024-06-01T00:15:02Z"))
    done = tickless("invoke", "risk_check", "--event", "-", "--json", stdin='{"scheduled_time": "2024-06-01T00:15Z"}')
    assert json.loads(done.stdout)["answer"]["status"] == "done"


def test_deployed_refusals_keep_their_exit_code(tickless, deployed, event):
    deployed.wiring.clock.set(parse_time("2024-06-01T02:00:00Z"))
    stale = tickless("invoke", "risk_check", "--event", event({"scheduled_time": "2024-06-01T00:15:00Z"}), code=3)
    assert "tickless: tick 2024-06-01T00:15:00Z#risk_check: 6300 s old, at most schedule.max_event_age_s = 600 s" in stale.stderr
    assert "metrics: StaleTick 1" in stale.stderr
    assert stale.stdout == ""
    early = tickless.json("invoke", "risk_check", "--event", event({"scheduled_time": "2024-06-01T04:00:00Z"}), code=3)
    assert early["error"]["type"] == "StaleTickError"
    assert early["error"]["message"].endswith("scheduled 7200 s in the future")
    bad = tickless("invoke", "risk_check", "--event", event({"time": 3}), code=2)
    assert "tickless: event of risk_check: 'scheduled_time' is missing" in bad.stderr
    assert deployed.adapters.ledger.load() is None


def test_deployed_failure_of_another_kind_is_exit_1(tickless, deployed, event):
    deployed.wiring.clock.set(parse_time(AT))
    fence = deployed.adapters.ledger.acquire("another tick", parse_time(AT), 900)
    busy = tickless("invoke", "full_rebalance", "--event", event({"scheduled_time": AT}), code=1)
    deployed.adapters.ledger.release(fence)
    assert "tickless: the lease is held by another tick" in busy.stderr


def test_an_unknown_deployed_function(tickless, deployed, event):
    sentence = tickless.refused("invoke", "scan", "--event", event({"scheduled_time": AT}))
    assert "not in stack tickless-dev; there are feature_rebalance, full_rebalance, retrain, risk_check" in sentence


@pytest.mark.parametrize("kind", [EventError, StaleTickError, ArtifactError, LeaseHeldError, ExchangeError, RefusedError])
def test_an_error_of_ours_comes_back_as_itself(kind):
    error = failure("risk_check", {"errorType": kind.__name__, "errorMessage": "why"})
    assert type(error) is kind
    assert str(error) == "why"


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ({"errorType": "ZeroDivisionError", "errorMessage": "division by zero"}, "retrain failed: ZeroDivisionError: division by zero"),
        ({"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out"}, "retrain failed: Sandbox.Timedout: Task timed out"),
        ({"errorType": "annotations"}, "retrain failed: annotations: {'errorType': 'annotations'}"),
        ("out of memory", "retrain failed: error: out of memory"),
    ],
)
def test_any_other_error_is_named(payload, says):
    error = failure("retrain", payload)
    assert type(error) is TicklessError
    assert str(error) == says
