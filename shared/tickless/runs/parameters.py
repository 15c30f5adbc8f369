"""Settings as they are at a tick: what SSM says, and the last good value of every section that it says badly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from tickless.errors import SettingsError
from tickless.settings import DeskSection, ScheduleSection, Section, Settings, build_settings, parse_section


@dataclass(frozen=True)
class LoadedSettings:
    """The settings of a tick."""

    settings: Settings
    fresh: Mapping[str, str] = field(default_factory=dict)
    """Good texts that differ from the last good ones: to be kept."""
    refused: tuple[str, ...] = ()
    """One sentence for each section that was refused."""


def resolve_settings(texts: Mapping[str, str], last_good: Mapping[str, str], *, may_move: bool = False) -> LoadedSettings:
    """Parse every section; a broken or missing one keeps its last good value. Texts seen before are not parsed again.

    A ledger is that of one account: a section that names another one is refused like a broken one, unless the desk ``may_move``. Raises
    SettingsError when a broken section has no last good value, or when the sections do not fit together.
    """
    return _resolve(tuple(sorted(texts.items())), tuple(sorted(last_good.items())), may_move=may_move)


@lru_cache(maxsize=8)
def _resolve(text_items: tuple[tuple[str, str], ...], last_good_items: tuple[tuple[str, str], ...], *, may_move: bool) -> LoadedSettings:
    texts, last_good = dict(text_items), dict(last_good_items)
    good: dict[str, str] = {}
    parsed: dict[str, Section] = {}
    refused: list[str] = []
    for name in sorted({*texts, *last_good}):
        try:
            parsed[name] = _parse(name, texts)
            if name == "desk" and name in last_good and not may_move:
                _refuse_other_account(parsed[name], last_good[name])
            good[name] = texts[name]
        except SettingsError as error:
            refused.append(str(error))
            if _is_unknown(name):
                continue
            if name not in last_good:
                raise
            parsed[name] = parse_section(name, last_good[name], "last good")
    try:
        settings = build_settings(parsed)
    except SettingsError as error:
        # Each section is good, together they are not: what worked before stays, whole.
        if not last_good:
            raise
        refused.append(str(error))
        kept = {name: parse_section(name, text, "last good") for name, text in last_good.items() if not _is_unknown(name)}
        return LoadedSettings(build_settings(kept), {}, tuple(refused))
    fresh = {name: text for name, text in good.items() if last_good.get(name) != text}
    return LoadedSettings(settings, fresh, tuple(refused))


def _refuse_other_account(wanted: Section, last_good: str) -> None:
    """Raise SettingsError for a desk that trades another account than its ledger is of."""
    before = parse_section("desk", last_good, "last good")
    if isinstance(wanted, DeskSection) and isinstance(before, DeskSection) and (difference := wanted.other_account(before)):
        raise SettingsError(
            f"parameter desk: desk.{difference}, and the ledger is that of the old one; "
            "a desk moves only while it is halted and holds nothing (`tickless flatten`), or is deployed as another stage"
        )


def moves_account(settings: Settings, last_good: Mapping[str, str]) -> bool:
    """Whether the desk trades another account than the one that its ledger was last written for."""
    before = parse_section("desk", last_good["desk"], "last good") if "desk" in last_good else None
    return isinstance(before, DeskSection) and bool(settings.desk.other_account(before))


def _parse(name: str, texts: Mapping[str, str]) -> Section:
    if name not in texts:
        raise SettingsError(f"parameter {name}: missing")
    return parse_section(name, texts[name])


def _is_unknown(name: str) -> bool:
    """Whether no section has this name: such a parameter is refused, and nothing depends on it."""
    try:
        parse_section(name, "{}")
    except SettingsError as error:
        return "unknown section" in str(error)
    return False


@lru_cache(maxsize=8)
def schedule_section(text: str, source: str = "parameter") -> ScheduleSection:
    """The schedule alone, before the other sections are looked at. Raises SettingsError."""
    section = parse_section("schedule", text, source)
    return section if isinstance(section, ScheduleSection) else ScheduleSection()
