"""``tickless params``: the desk's settings in SSM, one parameter a section; the next tick obeys what is written here."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from tickless.cli.accounts import desk_section, refuse_early_move
from tickless.cli.deployed import DeployedDesk, Stage, find_desk
from tickless.cli.drift import ABSENT, SAME, SectionDrift, compare_sections, key_changes, show_value
from tickless.cli.operating import settings_of
from tickless.cli.options import Desk, Json, Overrides
from tickless.cli.printing import note, print_json, print_table
from tickless.errors import InputError, RefusedError, SettingsError
from tickless.settings import Section, build_settings, load_desk, parse_section, section_text, section_type

params_app = typer.Typer(
    no_args_is_help=True,
    help="The desk's settings in SSM: show, change, compare with a desk file.",
    epilog="Example: tickless params show risk",
)

AT_DEPLOY: Mapping[str, str] = {
    "schedule": "the schedules and time-outs in AWS follow only with a deploy of a desk file that says the same",
    "alerts": "the alarms and the e-mail subscription follow only with a deploy of a desk file that says the same",
}
"""Sections of which the CDK app makes resources."""
STRATEGY_AT_DEPLOY = "the functions and schedules that run it in AWS follow only with a deploy of a desk file that says the same"
"""Where a strategy is new, or is scanned at other times."""


REFUSED = "refused by the desk, which keeps its last good value"
TOGETHER = "all"
"""In the place of a section's name, for sections that are good each and do not fit together."""

Live = Annotated[bool, typer.Option("--live", help="Yes, the desk is to trade a real account.")]

_NEGATIVE = re.compile(r"-\.?\d\S*")


class NegativeValue(TyperCommand):
    """A command whose last argument may be -5; whatever else begins with a dash stays an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, negative numbers behind the options."""
        numbers = [] if "--" in args else [word for word in args if _NEGATIVE.fullmatch(word)]
        if numbers:
            args = [*(word for word in args if word not in numbers), "--", *numbers]
        return super().parse_args(ctx, args)


@params_app.command("show")
def show(
    section: Annotated[str | None, typer.Argument(help="Only this section, such as risk or strategy.rotation.")] = None,
    stage: Stage = "dev",
    json_: Json = False,
) -> None:
    """Show what SSM says, section by section, and which sections the desk refuses.

    Example: tickless params show risk --stage dev
    """
    if section is not None:
        section_type(section)
    desk = find_desk(stage)
    texts = desk.cloud.parameters.read()
    refused = _refusals(desk, texts)
    if section is not None:
        texts = {section: _text_of(section, texts, stage)}
        refused = {name: sentence for name, sentence in refused.items() if name in (section, TOGETHER)}
    if json_:
        values = {name: section_value(name, text) for name, text in texts.items() if name not in refused}
        unread = {name: text for name, text in texts.items() if name in refused}
        print_json({"stage": stage, "sections": values, "refused": refused, "texts": unread})
        return
    rows = [(key, show_value(value)) for name, text in texts.items() for key, _, value in key_changes(name, None, text)]
    print_table(f"/tickless/{stage}", ("key", "value"), rows)
    for sentence in refused.values():
        note(f"{REFUSED}: {sentence}")


@params_app.command("set", cls=NegativeValue)
def set_(
    key: Annotated[str, typer.Argument(help="The key in full: section.key, such as risk.initial_stop_atr or portfolio.top_k.trend.")],
    value: Annotated[str, typer.Argument(help="JSON (1.5, null, [1, 2]) or plain text.")],
    stage: Stage = "dev",
    live: Live = False,
    json_: Json = False,
) -> None:
    """Change one value in SSM. The whole section, and how it fits with the others, is checked first; a bad value writes nothing.

    Example: tickless params set risk.kill_switch_drawdown_frac 0.15
    """
    section, path = split_key(key)
    desk = find_desk(stage)
    texts = desk.cloud.parameters.read()
    before = _text_of(section, texts, stage)
    after = with_value(section, before, path, read_value(value))
    refuse_misfit(desk, {**texts, section: after}, changed=(section,))
    refuse_unmeant(stage, {section: before}, {section: after}, meant=live)
    refuse_early_move({section: before}, {section: after}, desk.cloud.ledger.load())
    changes = _changes({section: before}, {section: after})
    _write(desk, {section: after}, changes)
    _print_changes(changes, stage, json_=json_)


@params_app.command("push")
def push(
    desk: Desk,
    stage: Stage = "dev",
    overrides: Overrides = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
    live: Live = False,
    json_: Json = False,
) -> None:
    """Write every section of a desk file into SSM, after showing what changes.

    Example: tickless params push --desk my-desk.toml --stage dev --yes
    """
    wanted = load_desk(desk, overrides or ()).sections()
    if json_ and not yes:
        raise InputError("--json: nobody can be asked; add --yes")
    deployed = find_desk(stage)
    texts = deployed.cloud.parameters.read()
    refuse_unmeant(stage, texts, wanted, meant=live)
    refuse_early_move(texts, wanted, deployed.cloud.ledger.load())
    changes = _changes(texts, wanted)
    for name in sorted(set(texts) - set(wanted)):
        note(f"{name}: in SSM and not in {desk}; left alone")
    _print_changes(changes, stage, json_=json_)
    if changes:
        if not yes:
            _ask(stage)
        _write(deployed, wanted, changes)


def _ask(stage: str) -> None:
    """Raise Abort where a person says no, RefusedError where there is nobody to say anything."""
    try:
        agreed = typer.confirm(f"Write this to the desk {stage}?", err=True)
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        note("")
        raise RefusedError(f"push changes what {stage} trades by, and nobody is here to be asked; say --yes") from None
    if not agreed:
        raise typer.Abort


@params_app.command("diff")
def diff(desk: Desk, stage: Stage = "dev", overrides: Overrides = None, json_: Json = False) -> None:
    """Compare a desk file with SSM and with the last deploy; exit code 1 where a deploy would overwrite what was changed in SSM.

    Example: tickless params diff --desk my-desk.toml --stage prod
    """
    wanted = load_desk(desk, overrides or ()).sections()
    deployed = find_desk(stage)
    texts = deployed.cloud.parameters.read()
    refused = _refusals(deployed, texts)
    sections = compare_sections(wanted, texts, deployed.deployed_sections())
    overwrites = [entry.section for entry in sections if entry.overwrites]
    if json_:
        rows = [_drift_json(entry) for entry in sections]
        print_json({"stage": stage, "desk": desk, "overwrites": overwrites, "refused": refused, "sections": rows})
    else:
        _print_drift(sections, desk, stage)
        for sentence in refused.values():
            note(f"{REFUSED}: {sentence}")
    if overwrites:
        note(
            f"a deploy of {desk} would overwrite what was changed in SSM: {', '.join(overwrites)}; "
            "copy the values into the desk file first, or push it to give them up"
        )
        raise typer.Exit(1)


def split_key(key: str) -> tuple[str, tuple[str, ...]]:
    """``strategy.rotation.market_base`` as (``strategy.rotation``, (``market_base``,)); raises SettingsError."""
    parts = key.split(".")
    length = 2 if parts[0] == "strategy" else 1
    section, path = ".".join(parts[:length]), tuple(parts[length:])
    if not all(parts) or not path:
        raise SettingsError(f"{key}: must be section.key, such as risk.initial_stop_atr")
    section_type(section)
    return section, path


def read_value(text: str) -> Any:
    """JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def with_value(section: str, text: str, path: tuple[str, ...], value: Any) -> str:
    """The canonical text of a section with one value replaced. Raises SettingsError where the result is no valid section."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{section}: what is in SSM is not JSON ({error}); `tickless params push` writes the whole section") from error
    node, where = content, section
    for name in path[:-1]:
        node, where = node.get(name) if isinstance(node, dict) else None, f"{where}.{name}"
    if not isinstance(node, dict):
        raise SettingsError(f"{where}: is not a table with a key {path[-1]!r}")
    node[path[-1]] = value
    return section_text(parse_section(section, json.dumps(content)))


def refuse_misfit(desk: DeployedDesk, texts: Mapping[str, str], changed: Iterable[str]) -> None:
    """Raise SettingsError where the sections do not fit together; a broken one stands in with its last good value, as at a tick."""
    state = desk.cloud.ledger.load()
    last_good = state.settings if state is not None else {}
    sections: dict[str, Section] = {}
    for name, text in texts.items():
        try:
            sections[name] = parse_section(name, text)
        except SettingsError as error:
            if name in changed:
                raise
            note(f"{REFUSED}: {error}")
            if name in last_good:
                sections[name] = parse_section(name, last_good[name], "last good")
    build_settings(sections)


def refuse_unmeant(stage: str, before: Mapping[str, str], after: Mapping[str, str], *, meant: bool) -> None:
    """Raise RefusedError for a change that lets the desk trade a real account, or another one, where nobody has said that this is meant."""
    wanted, known = (desk_section(texts) for texts in (after, before))
    if wanted is None or wanted.mode != "live" or meant:
        return
    difference = wanted.other_account(known) if known is not None else f"mode: {wanted.mode!r}"
    if difference:
        raise RefusedError(f"desk.{difference}: {stage} would send real orders to {wanted.exchange}; say --live if that is meant")


def section_value(name: str, text: str) -> Any:
    """A valid section as JSON values, defaults filled in; raises SettingsError."""
    return json.loads(section_text(parse_section(name, text)))


def _text_of(section: str, texts: Mapping[str, str], stage: str) -> str:
    if section not in texts:
        raise SettingsError(f"/tickless/{stage}/{section}: no such parameter; `tickless params push` writes it")
    return texts[section]


def _refusals(desk: DeployedDesk, texts: Mapping[str, str]) -> dict[str, str]:
    """Why the next tick refuses a section, by section, where it does: for what it says, or for what it says beside the ledger."""
    refused = {}
    for name, text in texts.items():
        try:
            parse_section(name, text)
        except SettingsError as error:
            refused[name] = str(error)
    _, sentences = settings_of(desk, desk.cloud.ledger.load())
    for sentence in sentences:
        if sentence not in refused.values():
            named = re.match(r"parameter ([a-z0-9_.]+): ", sentence)
            refused.setdefault(named.group(1) if named else TOGETHER, sentence)
    return refused


Changes = list[tuple[str, Any, Any]]


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> Changes:
    return [change for name, text in after.items() for change in key_changes(name, before.get(name), text)]


def _write(desk: DeployedDesk, texts: Mapping[str, str], changes: Changes) -> None:
    """Write the sections in which a value changes; the others keep their history of versions in SSM."""
    for name, text in texts.items():
        changed = {key: before for key, before, _ in changes if key.startswith(f"{name}.") or key == name}
        if changed:
            desk.cloud.parameters.write(name, text)
            if name in AT_DEPLOY:
                note(f"{name}: {AT_DEPLOY[name]}")
            elif name.startswith("strategy.") and (
                f"{name}.scan_every_min" in changed or all(before is ABSENT for before in changed.values())
            ):
                note(f"{name}: {STRATEGY_AT_DEPLOY}")


def _print_changes(changes: Changes, stage: str, *, json_: bool) -> None:
    if json_:
        rows = [{"key": key, "before": _plain(before), "after": _plain(after)} for key, before, after in changes]
        print_json({"stage": stage, "changes": rows})
    elif changes:
        rows_ = [(key, show_value(before), show_value(after)) for key, before, after in changes]
        print_table(f"/tickless/{stage}", ("key", "before", "after"), rows_)
    else:
        typer.echo("nothing changes")


def _plain(value: Any) -> Any:
    return None if show_value(value) is None else value


def _drift_json(entry: SectionDrift) -> dict[str, Any]:
    return {
        "section": entry.section,
        "status": entry.status,
        "effect": entry.effect,
        "overwrites": entry.overwrites,
        "differences": [difference.as_dict() for difference in entry.differences],
    }


def _print_drift(sections: tuple[SectionDrift, ...], desk: str, stage: str) -> None:
    print_table(
        f"{desk} against /tickless/{stage}",
        ("section", "status", "what a deploy does"),
        [(entry.section, entry.status, entry.effect) for entry in sections],
    )
    rows = [
        (row.key, show_value(row.desk_file), show_value(row.ssm), show_value(row.last_deploy))
        for entry in sections
        if entry.status != SAME
        for row in entry.differences
    ]
    if rows:
        print_table("keys that differ", ("key", "desk file", "SSM", "last deploy"), rows)
