"""Where a desk file, SSM and the last deploy differ, and what the next deploy would do about it. Pure.

CloudFormation compares a new template with the last one, never with what is in SSM: a parameter whose text is the same in both templates
is left alone, whatever a person wrote into it; one whose text differs is written over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tickless.errors import SettingsError
from tickless.settings import parse_section, section_text

SAME = "same"
CHANGED_IN_SSM = "changed in SSM"
CHANGED_IN_DESK_FILE = "changed in the desk file"
BOTH_CHANGED = "both changed"
MISSING = "missing"

ABSENT = object()
"""Stands for a key that is not there: JSON's null is a value."""

Texts = Mapping[str, str]


@dataclass(frozen=True)
class KeyDifference:
    """One key that is not the same everywhere. ``ABSENT`` where it is not there."""

    key: str
    """``section.key``, in full."""
    desk_file: Any
    ssm: Any
    last_deploy: Any

    def as_dict(self) -> dict[str, Any]:
        """The values by place; a place without the key is left out."""
        places = {"desk_file": self.desk_file, "ssm": self.ssm, "last_deploy": self.last_deploy}
        return {"key": self.key} | {place: value for place, value in places.items() if value is not ABSENT}


@dataclass(frozen=True)
class SectionDrift:
    """One section compared."""

    section: str
    status: str
    effect: str
    """What the next deploy does to the section in SSM; empty for nothing worth a word."""
    overwrites: bool
    """The next deploy takes away what a person changed in SSM."""
    differences: tuple[KeyDifference, ...] = ()


def compare_sections(desk_file: Texts, ssm: Texts, last_deploy: Texts) -> tuple[SectionDrift, ...]:
    """Every section that is known anywhere, in the order of the desk file, then by name."""
    names = [*desk_file, *sorted({*ssm, *last_deploy} - set(desk_file))]
    return tuple(_compare(name, desk_file.get(name), ssm.get(name), last_deploy.get(name)) for name in names)


def key_changes(section: str, before: str | None, after: str | None) -> tuple[tuple[str, Any, Any], ...]:
    """(key in full, before, after) of every key whose value in force differs between two texts; ``ABSENT`` where it is not there."""
    old, new = _values(section, before), _values(section, after)
    keys = [*new, *(key for key in old if key not in new)]
    pairs = ((key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in keys)
    return tuple((key, was, now) for key, was, now in pairs if _json(was) != _json(now))


def show_value(value: Any) -> str | None:
    """A value as a desk file's reader knows it: JSON in short; None where the key is not there."""
    return None if value is ABSENT else _json(value)


def _compare(name: str, desk_file: str | None, ssm: str | None, last_deploy: str | None) -> SectionDrift:
    in_ssm_changed = _canonical(name, ssm) != _canonical(name, last_deploy)
    status, effect, overwrites = _verdict(
        (desk_file is not None, ssm is not None, last_deploy is not None),
        written=desk_file != last_deploy,
        in_ssm_changed=in_ssm_changed,
        agree=_canonical(name, desk_file) == _canonical(name, ssm),
    )
    here, there, then = (_values(name, text) for text in (desk_file, ssm, last_deploy))
    rows = [KeyDifference(key, *(place.get(key, ABSENT) for place in (here, there, then))) for key in {**here, **there, **then}]
    differing = tuple(row for row in rows if len({_json(row.desk_file), _json(row.ssm), _json(row.last_deploy)}) > 1)
    return SectionDrift(name, status, effect, overwrites, differing)


def _verdict(there: tuple[bool, bool, bool], *, written: bool, in_ssm_changed: bool, agree: bool) -> tuple[str, str, bool]:
    """(status, effect of a deploy, whether that takes away a change): ``there`` says in which of the three places the section is."""
    if not all(there):
        return MISSING, *_missing(*there, in_ssm_changed=in_ssm_changed)
    if agree:
        return SAME, "", False
    if not written:
        return CHANGED_IN_SSM, "a deploy keeps it while the desk file stays as it is", False
    if not in_ssm_changed:
        return CHANGED_IN_DESK_FILE, "a deploy writes it", False
    return BOTH_CHANGED, "a deploy OVERWRITES what was changed in SSM", True


def _missing(in_file: bool, in_ssm: bool, in_deploy: bool, *, in_ssm_changed: bool) -> tuple[str, bool]:
    if not in_file and not in_deploy:
        return "only in SSM: no deploy touches it", False
    if not in_file:
        lost = in_ssm and in_ssm_changed
        return "not in the desk file: a deploy removes it" + (", and what was changed in SSM with it" if lost else ""), lost
    if not in_ssm:
        return "not in SSM: `tickless params push` writes it; until then the last good value is in force", False
    return "not in the last deploy: the next one creates it, and fails while it is in SSM already", False


def _canonical(name: str, text: str | None) -> str | None:
    """The text with every default filled in and keys sorted; as it stands where it is not a valid section."""
    if text is None:
        return None
    try:
        return section_text(parse_section(name, text))
    except SettingsError:
        return text


def _values(name: str, text: str | None) -> dict[str, Any]:
    """The values of a section by key in full; a text that is not a JSON object is one value."""
    canonical = _canonical(name, text)
    if canonical is None:
        return {}
    try:
        content = json.loads(canonical)
    except (ValueError, RecursionError):
        content = canonical
    return _flat(name, content)


def _flat(path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {key: leaf for name, inner in value.items() for key, leaf in _flat(f"{path}.{name}", inner).items()}


def _json(value: Any) -> str:
    return "" if value is ABSENT else json.dumps(value, sort_keys=True, ensure_ascii=False)
