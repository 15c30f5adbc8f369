"""A specification's file with other hyper-parameters: its text is kept, comments and all, but for the values that change."""

from __future__ import annotations

import re

from tickless.learn.spec import ModelSpec


def with_fit_values(text: str, spec: ModelSpec, head: str) -> str:
    """The text of a ``spec.toml`` with ``[fit]`` and ``[trials]`` of ``spec``, under ``head`` as comments. Defaults may be left out."""
    values = {name: _value(value) for name, value in spec.fit.model_dump(mode="json").items()}
    defaults = type(spec.fit)().model_dump(mode="json")
    lines: list[str] = []
    told: set[str] = set()
    table = ""
    for line in text.splitlines():
        found = re.match(r"\s*\[([^\]]*)\]", line)
        if found:
            if table == "fit":
                _add_missing(lines, values, defaults, told)
            table = found[1]
        if table == "trials":
            continue
        name = re.match(r"(\s*(\w+)\s*=\s*)([^#]*?)(\s*(?:#.*)?)$", line)
        if table == "fit" and name and name[2] in values:
            told.add(name[2])
            lines.append(f"{name[1]}{values[name[2]]}{name[4]}")
        else:
            lines.append(line)
    if "fit" not in {found[1] for found in re.finditer(r"^\s*\[([^\]]*)\]", text, re.MULTILINE)}:
        lines += ["", "[fit]"]
        table = "fit"
    if table == "fit":
        _add_missing(lines, values, defaults, told)
    if spec.trials.count > 1:
        chosen = spec.trials.model_dump(mode="json", exclude_none=True)
        lines += ["", "[trials]                           # what this specification was chosen among; its gates take the luck off"]
        lines += [f"{name} = {value!r}" for name, value in chosen.items()]
    comment = "".join(f"# {line}".rstrip() + "\n" for line in head.splitlines())
    return comment + "\n".join(lines).rstrip() + "\n"


def _add_missing(lines: list[str], values: dict[str, str], defaults: dict[str, object], told: set[str]) -> None:
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    lines[end:end] = [f"{name} = {text}" for name, text in values.items() if name not in told and text != _value(defaults[name])]
    told.update(values)


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else repr(value)
