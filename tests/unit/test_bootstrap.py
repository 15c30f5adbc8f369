"""What bootstrap makes of an environment and an event."""

from __future__ import annotations

import pytest

from tickless import bootstrap
from tickless.bootstrap import Environment, Wiring, parse_tick
from tickless.errors import EventError, InputError

VARIABLES = {
    "TICKLESS_STAGE": "dev",
    "TICKLESS_TABLE": "desk",
    "TICKLESS_BUCKET": "bucket",
    "TICKLESS_TOPIC_ARN": "arn:aws:sns:eu-central-1:123456789012:alerts",
}


def test_the_environment_is_what_the_cdk_app_says():
    environment = Environment.read(VARIABLES)
    assert (environment.stage, environment.table, environment.bucket) == ("dev", "desk", "bucket")
    assert environment.topic_arn.endswith(":alerts")


@pytest.mark.parametrize("name", sorted(VARIABLES))
@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_missing_is_named(name, value):
    variables = {key: text for key, text in VARIABLES.items() if key != name} | ({name: value} if value is not None else {})
    with pytest.raises(InputError, match=f"environment variable {name}: missing"):
        Environment.read(variables)


def test_an_event_becomes_a_tick_in_utc():
    tick = parse_tick("risk_check", {"scheduled_time": "2024-06-01T02:15:00+02:00"})
    assert tick.id == "2024-06-01T00:15:00Z#risk_check"


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ({}, "'scheduled_time' is missing"),
        (None, "'scheduled_time' is missing"),
        ([], "'scheduled_time' is missing"),
        ({"scheduled_time": None}, "scheduled_time None is not a text; expected a time such as"),
        ({"scheduled_time": 1717200000}, "scheduled_time 1717200000 is not a text; expected a time such as"),
        ({"scheduled_time": "<aws.scheduler.scheduled-time>"}, "scheduled_time '<aws.scheduler.scheduled-time>' is not an ISO 8601 time"),
        ({"scheduled_time": "2024-06-01T00:00:00"}, "scheduled_time '2024-06-01T00:00:00' is not an ISO 8601 time with a zone"),
        ({"scheduled_time": "0001-01-01T00:00:00Z"}, "scheduled_time '0001-01-01T00:00:00Z' is not in the years 2009 to 2200"),
        ({"scheduled_time": "0001-01-01T00:00:00+02:00"}, "is not an ISO 8601 time with a zone, or no calendar has it"),
        ({"scheduled_time": "9999-12-31T23:45:00Z"}, "scheduled_time '9999-12-31T23:45:00Z' is not in the years 2009 to 2200"),
        ({"scheduled_time": "2008-12-31T23:45:00Z"}, "scheduled_time '2008-12-31T23:45:00Z' is not in the years 2009 to 2200"),
        ({"scheduled_time": "2024-06-01T00:00:30Z"}, "scheduled_time '2024-06-01T00:00:30Z' is not a whole minute"),
    ],
)
def test_an_event_without_a_usable_time_is_refused_by_the_field_s_name(event, problem):
    with pytest.raises(EventError, match=problem) as raised:
        parse_tick("risk_check", event)
    assert str(raised.value).startswith("event of risk_check: ")


def test_the_event_of_a_scan_names_its_strategy_and_other_functions_have_none():
    event = {"scheduled_time": "2024-06-01T00:15:00Z", "strategy": "crossover"}
    assert parse_tick("scan", event).id == "2024-06-01T00:15:00Z#scan-crossover"
    assert parse_tick("risk_check", event).id == "2024-06-01T00:15:00Z#risk_check"
    assert parse_tick("risk_check", event | {"strategy": 7}).strategy == ""


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "'strategy' is missing; known: crossover"),
        ({"strategy": None}, "strategy None is unknown; known: crossover"),
        ({"strategy": ""}, "strategy '' is unknown; known: crossover"),
        ({"strategy": 7}, "strategy 7 is unknown; known: crossover"),
        ({"strategy": ["crossover"]}, r"strategy \['crossover'\] is unknown; known: crossover"),
        ({"strategy": "nope"}, "strategy 'nope' is unknown; known: crossover"),
        ({"strategy": "rotation"}, "strategy 'rotation' is unknown; known: crossover"),
    ],
)
def test_a_scan_without_a_usable_strategy_is_refused_by_its_name(given, problem):
    with pytest.raises(EventError, match=f"event of scan: {problem}"):
        parse_tick("scan", {"scheduled_time": "2024-06-01T00:15:00Z"} | given)


def test_one_wiring_keeps_its_adapters_warm_and_another_has_its_own():
    environment = Environment.read(VARIABLES)
    first, second = Wiring(), Wiring()
    assert first.cloud(environment) is first.cloud(Environment.read(VARIABLES))
    assert first.cloud(environment) is not second.cloud(environment)
    assert first.cloud(environment) is not first.cloud(Environment.read({**VARIABLES, "TICKLESS_STAGE": "prod"}))


def test_a_wiring_holds_for_its_block_and_ends_with_it_even_after_an_error():
    outside = bootstrap._wirings[-1]
    inside = Wiring()
    with bootstrap.wired(inside):
        assert bootstrap._wirings[-1] is inside
    assert bootstrap._wirings[-1] is outside
    with pytest.raises(KeyError), bootstrap.wired(inside):
        raise KeyError
    assert bootstrap._wirings[-1] is outside
