"""The interpreter of state machines, state by state; what it does not know, it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tickless.errors import InputError
from tickless.localcloud.state_machine import StateError, StateMachine, evaluate, fill

CALL = "arn:aws:states:::lambda:invoke"


class Resource:
    """A resource that answers, or fails, in turn; an answer that is none repeats the parameters."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.got: list[Any] = []

    def __call__(self, parameters: Any) -> Any:
        self.got.append(parameters)
        answer = self.answers.pop(0) if self.answers else parameters
        if isinstance(answer, StateError):
            raise answer
        return answer


def machine(states: dict[str, Any], resource: Resource | None = None, start: str = "A") -> StateMachine:
    return StateMachine({"StartAt": start, "States": states}, {CALL: resource or Resource()})


def task(**fields: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": CALL, "End": True, **fields}


def test_parameters_selector_and_paths_shape_what_goes_in_and_out():
    resource = Resource({"Payload": {"n": 2}, "StatusCode": 200})
    state = task(
        InputPath="$.inner",
        Parameters={"x.$": "$.x", "fixed": 1, "run.$": "$$.Execution.Name", "deep": [{"y.$": "$.ys[1]"}]},
        ResultSelector={"n.$": "$.Payload.n"},
        ResultPath="$.out.result",
        OutputPath="$.out",
    )
    output = machine({"A": state}, resource).run({"inner": {"x": "X", "ys": [1, 2]}, "other": 0}, "night-1")
    assert resource.got == [{"x": "X", "fixed": 1, "run": "night-1", "deep": [{"y": 2}]}]
    assert output == {"result": {"n": 2}}


@pytest.mark.parametrize(("path", "output"), [("$", {"r": 1}), (None, {"x": 0}), ("$.x", {"x": {"r": 1}})])
def test_a_result_replaces_its_input_joins_it_or_is_dropped(path, output):
    assert machine({"A": task(ResultPath=path)}, Resource({"r": 1})).run({"x": 0}, "e") == output


def test_a_choice_goes_where_its_variable_says_else_to_the_default_else_fails():
    choice = {"Type": "Choice", "Choices": [{"Variable": "$.on", "StringEquals": "b", "Next": "B"}], "Default": "C"}
    ends = {"B": {"Type": "Pass", "Result": "was b", "End": True}, "C": {"Type": "Succeed"}}
    assert machine({"A": choice, **ends}).run({"on": "b"}, "e") == "was b"
    assert machine({"A": choice, **ends}).run({"on": "z"}, "e") == {"on": "z"}
    del choice["Default"]
    with pytest.raises(StateError, match=r"States\.NoChoiceMatched"):
        machine({"A": choice, **ends}).run({"on": "z"}, "e")


def test_a_map_runs_every_item_in_order_with_its_own_input():
    inner = {"StartAt": "I", "ProcessorConfig": {"Mode": "INLINE"}, "States": {"I": task(OutputPath="$.item")}}
    selector = {"item.$": "$$.Map.Item.Value", "n.$": "$$.Map.Item.Index", "all.$": "$.shared"}
    state = {"Type": "Map", "ItemsPath": "$.items", "ItemSelector": selector, "ItemProcessor": inner, "ResultPath": "$.done", "End": True}
    resource = Resource()
    output = machine({"A": state}, resource).run({"items": ["p", "q"], "shared": True}, "e")
    assert resource.got == [{"item": "p", "n": 0, "all": True}, {"item": "q", "n": 1, "all": True}]
    assert output == {"items": ["p", "q"], "shared": True, "done": ["p", "q"]}
    assert machine({"A": state}).run({"items": [], "shared": True}, "e")["done"] == []


def test_an_error_is_tried_again_as_often_as_its_retrier_says_each_with_its_own_count():
    retry = [{"ErrorEquals": ["Busy"], "MaxAttempts": 2}, {"ErrorEquals": ["States.ALL"], "MaxAttempts": 1}]
    state = task(Parameters={"n.$": "States.Format('try {}-{}', $.who, $$.State.RetryCount)"}, Retry=retry)
    resource = Resource(StateError("Busy"), StateError("Other"), StateError("Busy"), "done")
    assert machine({"A": state}, resource).run({"who": "it"}, "e") == "done"
    assert [call["n"] for call in resource.got] == ["try it-0", "try it-1", "try it-2", "try it-3"]
    with pytest.raises(StateError, match="Busy: third"):
        machine({"A": state}, Resource(*[StateError("Busy", word) for word in ("first", "second", "third")])).run({"who": "it"}, "e")


def test_no_attempts_means_none():
    state = task(Retry=[{"ErrorEquals": ["Busy"], "MaxAttempts": 0}, {"ErrorEquals": ["States.ALL"]}])
    with pytest.raises(StateError, match="Busy"):
        machine({"A": state}, Resource(StateError("Busy"))).run({}, "e")


def test_what_is_caught_goes_on_elsewhere_with_the_error_beside_its_input():
    catch = [{"ErrorEquals": ["Mine"], "ResultPath": "$.error", "Next": "B"}, {"ErrorEquals": ["States.TaskFailed"], "Next": "B"}]
    states = {"A": task(Catch=catch), "B": {"Type": "Pass", "End": True}}
    said = {"Error": "Mine", "Cause": "why"}
    assert machine(states, Resource(StateError("Mine", "why"))).run({"x": 1}, "e") == {"x": 1, "error": said}
    assert machine(states, Resource(StateError("Other", "why"))).run({"x": 1}, "e") == {"Error": "Other", "Cause": "why"}
    with pytest.raises(StateError, match=r"States\.Timeout"):
        machine(states, Resource(StateError("States.Timeout"))).run({}, "e")


def test_a_fail_state_fails_by_name():
    with pytest.raises(StateError, match="Sorry: no"):
        machine({"A": {"Type": "Fail", "Error": "Sorry", "Cause": "no"}}).run({}, "e")


def test_a_path_that_leads_nowhere_is_an_error_that_can_be_caught():
    states = {
        "A": task(Parameters={"x.$": "$.missing"}, Catch=[{"ErrorEquals": ["States.ALL"], "Next": "B"}]),
        "B": {"Type": "Pass", "End": True},
    }
    assert machine(states).run({"x": 1}, "e")["Error"] == "States.ParameterPathFailure"


def test_a_loop_without_end_is_found_out():
    states = {"A": {"Type": "Pass", "Next": "B"}, "B": {"Type": "Pass", "Next": "A"}}
    with pytest.raises(StateError, match="10000 transitions"):
        machine(states).run({}, "e")


def test_an_execution_does_not_change_what_it_was_given():
    given = {"x": {"y": 1}}
    machine({"A": task(ResultPath="$.x.y")}, Resource(2)).run(given, "e")
    assert given == {"x": {"y": 1}}


@pytest.mark.parametrize(
    ("states", "says"),
    [
        ({"A": {"Type": "Wait", "Seconds": 5, "End": True}}, "state 'A': type 'Wait' cannot be simulated"),
        ({"A": task(HeartbeatSeconds=5)}, "state 'A': field 'HeartbeatSeconds' cannot be simulated"),
        ({"A": {**task(), "Resource": "arn:aws:states:::sqs:sendMessage"}}, "resource 'arn:aws:states:::sqs:sendMessage' cannot be"),
        ({"A": {"Type": "Map", "ItemProcessor": {"StartAt": "B", "States": {"B": {"Type": "Wait"}}}, "End": True}}, "state 'B'"),
    ],
)
def test_a_definition_that_needs_more_is_refused_before_it_runs(states, says):
    with pytest.raises(InputError, match=says):
        machine(states)


def test_jsonata_is_refused():
    with pytest.raises(InputError, match="query language 'JSONata' cannot be simulated"):
        StateMachine({"QueryLanguage": "JSONata", "StartAt": "A", "States": {}}, {})


@pytest.mark.parametrize("expression", ["States.UUID()", "$..x", "$.x[*]", "x"])
def test_expressions_that_it_does_not_know_are_no_values(expression):
    with pytest.raises(StateError, match="cannot be simulated"):
        evaluate(expression, {"x": [1]}, {})


def test_a_template_keeps_what_is_not_a_path():
    template = {"a": "$.x", "b": None, "c": ["$.x", 1.5], "d.$": "$"}
    assert json.loads(json.dumps(fill(template, {"x": 1}, {}))) == {"a": "$.x", "b": None, "c": ["$.x", 1.5], "d": {"x": 1}}
