"""Which account a deployed desk trades, and which its parameters name: they differ from a change in SSM until the desk has moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tickless.errors import RefusedError, SettingsError
from tickless.settings import DeskSection, parse_section
from tickless.types import DeskState


@dataclass(frozen=True)
class OtherAccount:
    """What the parameters name that is not the account of the ledger."""

    difference: str
    """The beginning of a sentence that names key and values."""
    here: DeskSection
    """The account of the ledger."""
    there: DeskSection
    moves: bool
    """Whether the next tick goes there: the desk is halted and holds nothing. Else it refuses the parameter."""

    @property
    def stays(self) -> str:
        """The account of the ledger in words."""
        return account_line(self.here.mode, self.here.exchange, self.here.market_type, self.here.sandbox)


def desk_section(texts: Mapping[str, str]) -> DeskSection | None:
    """The ``desk`` section; None where there is none that can be read."""
    try:
        section = parse_section("desk", texts["desk"])
    except (KeyError, SettingsError):
        return None
    return section if isinstance(section, DeskSection) else None


def other_account(texts: Mapping[str, str], state: DeskState | None) -> OtherAccount | None:
    """What ``texts``, the parameters, name beside the ledger's account; None where that is the same, or the desk has never run."""
    here, there = desk_section(state.settings) if state is not None else None, desk_section(texts)
    if state is None or here is None or there is None:
        return None
    difference = there.other_account(here)
    return OtherAccount(difference, here, there, state.may_move) if difference else None


def account_line(mode: str, exchange: str, market_type: str, sandbox: bool) -> str:
    """The account in words that nobody takes for another."""
    if mode != "live":
        return f"{mode} on {exchange}"
    return f"LIVE on {exchange}, {market_type}: {'its SANDBOX, test money' if sandbox else 'REAL MONEY'}"


def refuse_resume(texts: Mapping[str, str], state: DeskState) -> None:
    """Raise RefusedError where a halted desk has not gone to the account that its parameters name."""
    other = other_account(texts, state)
    if other is None:
        return
    then = "it moves at its next tick, resume after that" if other.moves else "it moves once it is flattened (`tickless flatten`)"
    raise RefusedError(f"desk.{other.difference}: resumed now, the desk would go on as {other.stays}; {then}, or set the parameter back")


def refuse_early_move(before: Mapping[str, str], after: Mapping[str, str], state: DeskState | None) -> None:
    """Raise RefusedError for a change of the account that the next tick would refuse: the desk would trade on at the old one."""
    wanted, known = desk_section(after), desk_section(before)
    other = other_account(after, state)
    if other is None or other.moves or (wanted is not None and known is not None and not wanted.other_account(known)):
        return
    raise RefusedError(
        f"desk.{other.difference}: the desk is not halted with nothing held, so its next tick would refuse it and go on as "
        f"{other.stays}; `tickless flatten --yes` first, and wait until it is over"
    )
