"""Step Functions: runs a state machine's definition as the stack created it. No state of it is known to this module beforehand.

What the desk's machines use of the Amazon States Language with JSONPath: Task, Map (inline), Choice, Pass, Succeed, Fail; Retry and Catch;
InputPath, Parameters, ResultSelector, ResultPath, OutputPath; the context object, States.Format. A definition that needs more is refused,
never run in part. Waiting takes no time: retries follow at once.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tickless.errors import InputError

Resource = Callable[[Mapping[str, Any]], Any]
"""What a Task calls: its parameters in, its result out; raises StateError."""

_COMMON = {"Type", "Comment", "InputPath", "OutputPath", "Next", "End"}
_RESULT = {"Parameters", "ResultSelector", "ResultPath"}
_FIELDS: Mapping[str, set[str]] = {
    "Task": {*_COMMON, *_RESULT, "Resource", "Retry", "Catch", "TimeoutSeconds"},
    "Map": {*_COMMON, *_RESULT, "ItemsPath", "ItemSelector", "ItemProcessor", "MaxConcurrency", "Retry", "Catch"},
    "Choice": {"Type", "Comment", "InputPath", "OutputPath", "Choices", "Default"},
    "Pass": {*_COMMON, "Parameters", "Result", "ResultPath"},
    "Succeed": {"Type", "Comment", "InputPath", "OutputPath"},
    "Fail": {"Type", "Comment", "Error", "Cause"},
}
_PATH = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[(\d+)\]")
_FORMAT = re.compile(r"States\.Format\('((?:[^'\\]|\\.)*)'((?:,\s*\$[^,\s)]+)*)\)")
_MOST_STATES = 10_000
"""More transitions than any execution of ours: a definition that never ends is found out."""


class StateError(Exception):
    """An error by name, as Retry and Catch know it."""

    def __init__(self, name: str, cause: str = "") -> None:
        super().__init__(f"{name}: {cause}")
        self.name = name
        self.cause = cause


class StateMachine:
    """A definition that can be run. Raises InputError for one that uses what is not here."""

    def __init__(self, definition: Mapping[str, Any], resources: Mapping[str, Resource]) -> None:
        self._definition = definition
        self._resources = resources
        self._check(definition)

    def run(self, content: Any, execution: str) -> Any:
        """The output of an execution; raises StateError where it fails. ``execution`` is its name."""
        context = {"Execution": {"Name": execution, "Input": content}, "State": {}}
        return self._walk(self._definition, copy.deepcopy(content), context)

    def _check(self, part: Mapping[str, Any]) -> None:
        if part.get("QueryLanguage", "JSONPath") != "JSONPath":
            raise InputError(f"state machine: query language {part['QueryLanguage']!r} cannot be simulated")
        for name, state in part["States"].items():
            unknown = set(state) - _FIELDS.get(state["Type"], set())
            if state["Type"] not in _FIELDS or unknown:
                what = f"field {sorted(unknown)[0]!r}" if state["Type"] in _FIELDS else f"type {state['Type']!r}"
                raise InputError(f"state machine: state {name!r}: {what} cannot be simulated")
            if state["Type"] == "Task" and state["Resource"] not in self._resources:
                raise InputError(f"state machine: state {name!r}: resource {state['Resource']!r} cannot be simulated")
            if state["Type"] == "Map":
                self._check(state["ItemProcessor"])

    def _walk(self, part: Mapping[str, Any], content: Any, context: Mapping[str, Any]) -> Any:
        name = part["StartAt"]
        for _ in range(_MOST_STATES):
            state = part["States"][name]
            content, following = self._enter(name, state, content, context)
            if following is None:
                return content
            name = following
        raise StateError("States.Runtime", f"more than {_MOST_STATES} transitions")

    def _enter(self, name: str, state: Mapping[str, Any], content: Any, context: Mapping[str, Any]) -> tuple[Any, str | None]:
        """(output, next state) of one state, after its retries."""
        failed: dict[int, int] = {}
        for attempt in range(_MOST_STATES):
            here = {**context, "State": {"Name": name, "RetryCount": attempt}}
            try:
                return self._run_state(state, content, here)
            except StateError as error:
                if self._is_retried(state, error, failed):
                    continue
                for catcher in state.get("Catch", ()):
                    if _matches(catcher["ErrorEquals"], error):
                        said = {"Error": error.name, "Cause": error.cause}
                        return _insert(content, catcher.get("ResultPath", "$"), said), catcher["Next"]
                raise
        raise StateError("States.Runtime", f"more than {_MOST_STATES} retries")

    @staticmethod
    def _is_retried(state: Mapping[str, Any], error: StateError, failed: dict[int, int]) -> bool:
        for number, retrier in enumerate(state.get("Retry", ())):
            if _matches(retrier["ErrorEquals"], error):
                failed[number] = failed.get(number, 0) + 1
                return failed[number] <= int(retrier.get("MaxAttempts", 3))
        return False

    def _run_state(self, state: Mapping[str, Any], content: Any, context: Mapping[str, Any]) -> tuple[Any, str | None]:
        kind = state["Type"]
        if kind == "Fail":
            raise StateError(state.get("Error", ""), state.get("Cause", ""))
        given = evaluate(state.get("InputPath", "$"), content, context)
        if kind == "Choice":
            return evaluate(state.get("OutputPath", "$"), given, context), _choose(state, given, context)
        output = given if kind == "Succeed" else self._result(state, given, context)
        return evaluate(state.get("OutputPath", "$"), output, context), state.get("Next")

    def _result(self, state: Mapping[str, Any], given: Any, context: Mapping[str, Any]) -> Any:
        parameters = fill(state["Parameters"], given, context) if "Parameters" in state else given
        if state["Type"] == "Task":
            result = json.loads(json.dumps(self._resources[state["Resource"]](parameters)))
        elif state["Type"] == "Map":
            result = self._map(state, parameters, context)
        else:
            result = copy.deepcopy(state.get("Result", parameters))
        if "ResultSelector" in state:
            result = fill(state["ResultSelector"], result, context)
        return _insert(given, state.get("ResultPath", "$"), result)

    def _map(self, state: Mapping[str, Any], given: Any, context: Mapping[str, Any]) -> list[Any]:
        results = []
        for index, value in enumerate(evaluate(state.get("ItemsPath", "$"), given, context)):
            here = {**context, "Map": {"Item": {"Index": index, "Value": value}}}
            item = fill(state["ItemSelector"], given, here) if "ItemSelector" in state else value
            results.append(self._walk(state["ItemProcessor"], item, here))
        return results


def fill(template: Any, content: Any, context: Mapping[str, Any]) -> Any:
    """A payload template with its ``.$`` fields evaluated."""
    if isinstance(template, Mapping):
        filled = {}
        for key, value in template.items():
            if key.endswith(".$"):
                filled[key.removesuffix(".$")] = evaluate(value, content, context)
            else:
                filled[key] = fill(value, content, context)
        return filled
    return [fill(value, content, context) for value in template] if isinstance(template, list) else template


def evaluate(expression: str | None, content: Any, context: Mapping[str, Any]) -> Any:
    """What a path or ``States.Format`` gives; an empty object for a path that is null. Raises StateError where it leads nowhere."""
    if expression is None:
        return {}
    call = _FORMAT.fullmatch(expression)
    if call is not None:
        values = [evaluate(path.strip(), content, context) for path in call[2].split(",")[1:]]
        return re.sub(r"\{\}", lambda _: str(values.pop(0)), call[1])
    where: Any = context if expression.startswith("$$") else content
    rest = expression.removeprefix("$$" if where is context else "$")
    if not expression.startswith("$") or _PATH.sub("", rest):
        raise StateError("States.Runtime", f"{expression!r} cannot be simulated")
    for key, index in _PATH.findall(rest):
        try:
            where = where[key] if key else where[int(index)]
        except (KeyError, IndexError, TypeError) as error:
            raise StateError("States.ParameterPathFailure", f"{expression!r} is not in {json.dumps(content)[:200]}") from error
    return copy.deepcopy(where)


def _insert(content: Any, path: str | None, result: Any) -> Any:
    """``content`` with ``result`` put at a path of plain names; ``$`` replaces it, null leaves it."""
    if path is None:
        return content
    if path == "$":
        return result
    output = copy.deepcopy(content)
    *parents, last = [key for key, _ in _PATH.findall(path[1:])]
    where = output
    for key in parents:
        where = where.setdefault(key, {})
    where[last] = result
    return output


def _choose(state: Mapping[str, Any], given: Any, context: Mapping[str, Any]) -> str:
    for rule in state["Choices"]:
        if set(rule) - {"Comment"} != {"Variable", "StringEquals", "Next"}:
            raise StateError("States.Runtime", f"choice rule {rule} cannot be simulated")
        if evaluate(rule["Variable"], given, context) == rule["StringEquals"]:
            return str(rule["Next"])
    if "Default" not in state:
        raise StateError("States.NoChoiceMatched")
    return str(state["Default"])


def _matches(names: list[str], error: StateError) -> bool:
    if error.name in names or "States.ALL" in names:
        return True
    return "States.TaskFailed" in names and error.name != "States.Timeout"
