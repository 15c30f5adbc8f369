"""Metrics, log lines, alerts and the clock."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import EndpointConnectionError

from tickless.adapters.memory import ManualClock, MemoryLog, MemoryMetrics, MemoryNotifier
from tickless.adapters.powertools_log import PowertoolsLog
from tickless.adapters.powertools_metrics import PowertoolsMetrics
from tickless.adapters.sns_notifier import SnsNotifier, subject_line
from tickless.adapters.system_clock import SystemClock


class Topic:
    """An SNS client that remembers, or is out of reach."""

    def __init__(self, down: bool = False) -> None:
        self.published: list[dict[str, str]] = []
        self._down = down

    def publish(self, **message: str) -> None:
        if self._down:
            raise EndpointConnectionError(endpoint_url="https://sns")
        self.published.append(message)


def test_metrics_are_one_emf_line_a_flush(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = PowertoolsMetrics("risk_check", "dev")
    metrics.count("TickDone")
    metrics.count("OrdersSent", 3)
    metrics.count("OrdersSent", 2)
    metrics.gauge("DrawdownFrac", 0.07)
    metrics.gauge("Equity", 50_000.5)
    assert capsys.readouterr().out == ""
    metrics.flush()
    (line,) = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Tickless"
    assert [sorted(names) for names in directive["Dimensions"]] == [["service", "stage"]]
    assert (line["service"], line["stage"]) == ("risk_check", "dev")
    assert {name: line[name] for name in ("TickDone", "OrdersSent", "DrawdownFrac", "Equity")} == {
        "TickDone": [1.0], "OrdersSent": [3.0, 2.0], "DrawdownFrac": [0.07], "Equity": [50_000.5]
    }  # fmt: skip


def test_a_strategy_may_divide_the_numbers_of_a_function(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = PowertoolsMetrics("scan", "dev")
    metrics.divide(strategy="crossover")
    metrics.count("TickDone")
    metrics.flush()
    line = json.loads(capsys.readouterr().out)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert [sorted(names) for names in directive["Dimensions"]] == [["service", "stage", "strategy"]]
    assert (line["service"], line["stage"], line["strategy"]) == ("scan", "dev", "crossover")


def test_each_flush_starts_anew_and_nothing_collected_is_nothing_written(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = PowertoolsMetrics("risk_check", "dev")
    metrics.flush()
    assert capsys.readouterr().out == ""
    metrics.count("StaleTick")
    metrics.flush()
    metrics.count("TickDone")
    metrics.flush()
    second = json.loads(capsys.readouterr().out.splitlines()[1])
    assert "StaleTick" not in second
    assert (second["TickDone"], second["stage"]) == ([1.0], "dev")


def test_two_functions_in_one_process_keep_their_numbers_apart(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = PowertoolsMetrics("risk_check", "dev"), PowertoolsMetrics("retrain", "dev")
    first.count("TickDone")
    second.count("ModelPromoted")
    second.flush()
    line = json.loads(capsys.readouterr().out)
    assert line["service"] == "retrain"
    assert "TickDone" not in line


def test_log_lines_carry_their_fields() -> None:
    stream = io.StringIO()
    log = PowertoolsLog(Logger(service="risk_check", stream=stream))
    log.info("tick done", tick="2024-06-01T00:00:00Z#risk_check", name="taken", orders=3)
    log.warning("settings refused", section="risk")
    lines: list[dict[str, Any]] = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [("INFO", "tick done"), ("WARNING", "settings refused")]
    assert (lines[0]["tick"], lines[0]["name_"], lines[0]["orders"]) == ("2024-06-01T00:00:00Z#risk_check", "taken", 3)
    assert lines[0]["location"].startswith("test_log_lines_carry_their_fields:")
    assert lines[1]["section"] == "risk"


def test_an_alert_is_published() -> None:
    topic = Topic()
    SnsNotifier("arn:aws:sns:eu-central-1:123456789012:alerts", topic, MemoryLog()).alert("desk halted", "drawdown 21 %")  # type: ignore[arg-type]
    assert topic.published == [
        {"TopicArn": "arn:aws:sns:eu-central-1:123456789012:alerts", "Subject": "desk halted", "Message": "drawdown 21 %"}
    ]


def test_an_alert_that_cannot_be_sent_is_logged() -> None:
    log = MemoryLog()
    SnsNotifier("arn", Topic(down=True), log).alert("desk halted", "drawdown 21 %")  # type: ignore[arg-type]
    ((level, message, fields),) = log.lines
    assert (level, message, fields["subject"]) == ("warning", "alert not sent", "desk halted")
    assert "https://sns" in fields["reason"]


@pytest.mark.parametrize(
    ("text", "line"),
    [("halted", "halted"), ("a\nb\t c", "a b c"), ("α → β", "? ? ?"), ("x" * 200, "x" * 99), ("", "tickless"), ("\n", "tickless")],
)
def test_a_subject_is_what_sns_takes(text: str, line: str) -> None:
    assert subject_line(text) == line


def test_the_system_clock_is_in_utc_and_goes_on() -> None:
    clock = SystemClock()
    before = clock.now()
    clock.sleep(0.001)
    assert before.tzinfo is UTC
    assert clock.now() - before >= timedelta(seconds=0.001)


def test_the_hands_of_a_manual_clock_are_moved() -> None:
    clock = ManualClock(datetime(2024, 6, 1, tzinfo=UTC))
    clock.sleep(1.5)
    assert clock.now() == datetime(2024, 6, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    clock.set(datetime(2024, 6, 2, tzinfo=UTC))
    assert clock.now() == datetime(2024, 6, 2, tzinfo=UTC)
    with pytest.raises(ValueError, match="no time zone"):
        clock.set(datetime(2024, 6, 2, tzinfo=None))  # noqa: DTZ001


def test_memory_remembers_what_it_was_told() -> None:
    metrics, notifier, log = MemoryMetrics(), MemoryNotifier(), MemoryLog()
    metrics.count("TickDone")
    metrics.count("TickDone", 2)
    metrics.gauge("Equity", 1.0)
    metrics.gauge("Equity", 2.0, "None")
    notifier.alert("halted", "why")
    log.info("done", tick="t")
    assert (metrics.counts, metrics.gauges) == ({"TickDone": 3.0}, {"Equity": [1.0, 2.0]})
    assert notifier.alerts == [("halted", "why")]
    assert log.lines == [("info", "done", {"tick": "t"})]
