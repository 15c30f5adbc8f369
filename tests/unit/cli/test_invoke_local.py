"""``tickless invoke --local``: the handler on a local AWS of its own, so no other may be up."""

import json
from datetime import timedelta

import pytest

from tickless.adapters.bar_files import write_folder
from tickless.adapters.markets_file import write_markets
from tickless.types import parse_time

AT = "2024-06-01T06:00:00Z"


@pytest.fixture
def folder(tmp_path, market):
    """A data folder with enough bars before the event."""
    out = tmp_path / "bars"
    panel = market.panel.between(parse_time(AT) - timedelta(days=45), parse_time(AT) + timedelta(hours=6))
    write_folder(out, panel)
    write_markets(out, market.filters)
    return out


def test_local_runs_the_handler_on_a_synthetic_market(tickless, event):
    done = tickless.json("invoke", "full_rebalance", "--event", event({"scheduled_time": AT}), "--local")
    assert done["answer"]["ran"] == [f"{AT}#risk_check", f"{AT}#full_rebalance"]
    assert done["answer"]["orders"] > 0
    assert done["metrics"]["ModelFallback"] == 1
    assert tickless.json("invoke", "full_rebalance", "--event", event({"scheduled_time": AT}), "--local")["answer"] == done["answer"]


def test_local_on_recorded_bars_with_another_desk(tickless, event, folder):
    options = ("--local", "--data", folder, "--set", "desk.dry_run_wallet=1000", "--set", "portfolio.min_order_value=10")
    done = tickless.json("invoke", "feature_rebalance", "--event", event({"scheduled_time": "2024-06-01T00:30:00Z"}), *options)
    assert done["answer"]["equity"] == 1000.0
    assert 0 < done["answer"]["positions"] <= 12


@pytest.mark.parametrize("at", ["2023-06-01T00:30:00Z", "2024-06-01T12:15:00Z"])
def test_an_event_outside_the_recorded_bars(tickless, event, folder, at):
    sentence = tickless.refused("invoke", "feature_rebalance", "--event", event({"scheduled_time": at}), "--local", "--data", folder)
    assert f"no bar has closed at {at}, the event's time; the bars reach from 2024-04-17T06:00:00Z to 2024-06-01T12:00:00Z" in sentence


def test_the_sample_events_work(tickless, root):
    done = tickless("invoke", "risk_check", "--event", root / "functions/risk_check/events/scheduled.json", "--local")
    answer = json.loads(done.stdout[done.stdout.index("\n{\n") :])
    assert answer["status"] == "done"
    assert "metrics: " in done.stdout


def test_local_refuses_a_stale_event_as_the_cloud_does(tickless, event):
    file = event({"scheduled_time": "2024-06-01T00:15:00Z"})
    stale = tickless("invoke", "risk_check", "--event", file, "--local", "--now", "2024-06-01T01:15:00Z", code=3)
    assert stale.stderr.splitlines()[-1].endswith("3600 s old, at most schedule.max_event_age_s = 600 s")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "event.json: not JSON"),
        ({}, "event of risk_check: 'scheduled_time' is missing"),
        ([], "event of risk_check: 'scheduled_time' is missing"),
        ({"scheduled_time": "noon"}, "event of risk_check: scheduled_time 'noon' is not an ISO 8601 time with a zone"),
        ({"scheduled_time": "2024-06-01T00:15:00"}, "scheduled_time '2024-06-01T00:15:00' is not an ISO 8601 time with a zone"),
        ({"scheduled_time": "2024-06-01T00:15:30Z"}, "is not a whole minute"),
    ],
)
def test_a_bad_event_is_exit_2(tickless, event, content, says):
    assert says in tickless.refused("invoke", "risk_check", "--event", event(content), "--local")


def test_bad_options_are_exit_2(tickless, tmp_path, event):
    good = event({"scheduled_time": AT})
    assert "none.json: cannot be read (No such file" in tickless.refused("invoke", "risk_check", "--event", tmp_path / "none.json")
    assert f"--event {tmp_path}: cannot be read" in tickless.refused("invoke", "risk_check", "--event", tmp_path)
    unknown = tickless.refused("invoke", "nope", "--event", good, "--local")
    assert unknown.endswith("function 'nope': unknown; known: feature_rebalance, full_rebalance, retrain, risk_check, scan")
    assert "event of scan: 'strategy' is missing" in tickless.refused("invoke", "scan", "--event", good, "--local")
    scan = event({"scheduled_time": AT, "strategy": "crossover"})
    asleep = tickless.refused("invoke", "scan", "--event", scan, "--local")
    assert asleep.endswith("the desk rotation does not wake it; it wakes risk_check, feature_rebalance, full_rebalance, retrain")
    assert "--now noon: not an ISO 8601 time" in tickless.refused("invoke", "risk_check", "--event", good, "--local", "--now", "noon")
    assert "--data: only with --local" in tickless.refused("invoke", "risk_check", "--event", good, "--data", tmp_path)
    assert "--now: only with --local" in tickless.refused("invoke", "risk_check", "--event", good, "--now", AT)
    assert str(tmp_path) in tickless.refused("invoke", "risk_check", "--event", good, "--local", "--data", tmp_path)
    assert "desk nope: neither" in tickless.refused("invoke", "risk_check", "--event", good, "--local", "--desk", "nope")
