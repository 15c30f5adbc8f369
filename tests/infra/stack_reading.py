"""Reads a template the way AWS would: references resolved to readable names, policies gathered by function, cron expanded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

DAY = datetime(2024, 6, 1, tzinfo=UTC)
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/desk/training:7"
"""Of a desk that trains on SageMaker."""


def of_type(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {name: r for name, r in template["Resources"].items() if r["Type"] == kind}


def properties(template: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [r["Properties"] for r in of_type(template, kind).values()]


def the(template: dict[str, Any], kind: str, hint: str = "") -> tuple[str, dict[str, Any]]:
    """The only resource of a kind whose logical id contains ``hint``."""
    ((name, resource),) = [(n, r) for n, r in of_type(template, kind).items() if hint in n]
    return name, resource


def functions(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Properties of each function by its short name."""
    found = properties(template, "AWS::Lambda::Function")
    return {p["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]: p for p in found}


def text(value: Any) -> str:
    """An intrinsic as text: ``<Logical>`` for a Ref, ``<Logical.Attribute>`` for a GetAtt."""
    if isinstance(value, str):
        return value
    ((function, argument),) = value.items()
    if function == "Ref":
        return f"<{argument}>"
    if function == "Fn::GetAtt":
        return f"<{'.'.join(argument)}>"
    assert function == "Fn::Join", function
    return argument[0].join(text(part) for part in argument[1])


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(template: dict[str, Any], role_arn: Any) -> Iterator[dict[str, Any]]:
    """Every statement of the policies attached to the role behind ``{"Fn::GetAtt": [role, "Arn"]}``."""
    role = role_arn["Fn::GetAtt"][0]
    inline = template["Resources"][role]["Properties"]
    assert "Policies" not in inline
    assert "ManagedPolicyArns" not in inline
    for policy in properties(template, "AWS::IAM::Policy"):
        if {"Ref": role} in policy["Roles"]:
            yield from policy["PolicyDocument"]["Statement"]


def may(template: dict[str, Any], function: str, action: str, resource: str) -> bool:
    """Whether a function's role allows an action on a resource (as :func:`text` writes it), conditions left aside."""
    for statement in statements(template, functions(template)[function]["Role"]):
        assert statement["Effect"] == "Allow"
        actions = (fnmatchcase(action, pattern) for pattern in as_list(statement["Action"]))
        resources = (fnmatchcase(resource, text(pattern)) for pattern in as_list(statement["Resource"]))
        if any(actions) and any(resources):
            return True
    return False


def fires(expression: str, days: int = 1) -> set[datetime]:
    """The minutes of ``days`` days at which a cron expression of EventBridge fires."""
    minute, hour, *rest = expression.removeprefix("cron(").removesuffix(")").split()
    assert rest == ["*", "*", "?", "*"]
    times = (DAY + timedelta(minutes=m) for m in range(days * 24 * 60))
    return {at for at in times if _matches(minute, at.minute) and _matches(hour, at.hour)}


def _matches(field: str, value: int) -> bool:
    for part in field.split(","):
        if part == "*":
            return True
        if "/" in part:
            start, step = map(int, part.split("/"))
            if value >= start and (value - start) % step == 0:
                return True
        elif "-" in part:
            low, high = map(int, part.split("-"))
            if low <= value <= high:
                return True
        elif int(part) == value:
            return True
    return False


def schedules(template: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Properties of the schedules by the short name of the function, or the machine, that they wake."""
    names = {
        f"<{logical}.Arn>": r["Properties"]["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]
        for logical, r in of_type(template, "AWS::Lambda::Function").items()
    }
    for logical, r in of_type(template, "AWS::StepFunctions::StateMachine").items():
        names[f"<{logical}>"] = r["Properties"]["StateMachineName"].split("-", 2)[2]
    found: dict[str, list[dict[str, Any]]] = {}
    for schedule in properties(template, "AWS::Scheduler::Schedule"):
        found.setdefault(names[text(schedule["Target"]["Arn"])], []).append(schedule)
    return found


def definition(template: dict[str, Any]) -> dict[str, Any]:
    """The one state machine's definition, ARNs as :func:`text` writes them."""
    ((machine),) = properties(template, "AWS::StepFunctions::StateMachine")
    return dict(json.loads(text(machine["DefinitionString"])))


def alarms(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Properties of the alarms by name, without ``tickless-<stage>-``."""
    return {p["AlarmName"].split("-", 2)[2]: p for p in properties(template, "AWS::CloudWatch::Alarm")}


def dimensions(alarm: dict[str, Any]) -> dict[str, str]:
    return {d["Name"]: text(d["Value"]) for d in alarm["Dimensions"]}


def canonical(template: dict[str, Any]) -> str:
    return json.dumps(template, sort_keys=True)
