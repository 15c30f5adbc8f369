"""``tickless halt``, ``resume``, ``flatten``, ``accept``: tell a deployed desk what to do.

Each writes under the desk's lease, with its next fencing number, like a tick does: a tick that runs just now is waited for, and one that
was abandoned can write nothing afterwards. Nothing here talks to the exchange: the desk's next tick does what the ledger says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tickless.cli.accounts import refuse_resume
from tickless.cli.clock import desk_clock
from tickless.cli.deployed import DeployedDesk, Stage, find_desk
from tickless.cli.operating import amount, plain, settings_of
from tickless.cli.options import Json
from tickless.cli.printing import note, percent, print_json
from tickless.errors import InputError, LeaseHeldError, RefusedError, SettingsError
from tickless.types import Accept, DeskState, Flatten, Halt, LedgerUpdate, iso

if TYPE_CHECKING:
    from tickless.ports import Clock, Fence, Ledger

LEASE_TTL_S = 60
"""A command takes a second; a lease it leaves behind may be taken over after this long."""
LEASE_WAIT_S = 300
"""Longer than any lease of a tick by default: a tick that runs is waited for."""
POLL_S = 1.0
MOST_REASON_CHARS = 500
"""A reason is part of the ledger's one item of the desk, and of every alert and status that tells it."""

Reason = Annotated[str, typer.Option("--reason", help="Why; shown by status.")]


def halt(
    stage: Stage = "dev",
    reason: Reason = "by hand",
    json_: Json = False,
) -> None:
    """Stop the desk from buying, from the next tick on. Positions stay, stops and exits go on; `tickless resume` ends it.

    Example: tickless halt --reason "exchange maintenance at noon"
    """
    _check_reason(reason)
    halted, before = halt_desk(find_desk(stage).cloud.ledger, desk_clock(), reason.strip())
    content = {"stage": stage, "state": "HALTED", "since": iso(halted.since), "reason": halted.reason, "already_halted": before}
    text = f"{stage} is halted {'already, ' if before else ''}since {iso(halted.since)}: {halted.reason}"
    _print_outcome(content, text, json_=json_)


def resume(
    stage: Stage = "dev",
    reset_peak: Annotated[
        bool | None,
        typer.Option(
            "--reset-peak/--keep-peak",
            help="Count drawdown from the present equity, or from the old peak; without either, as needed.",
            show_default=False,
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Let a halted desk buy again.

    Drawdown is counted from the peak of equity. Where it is as deep as the kill switch, the next risk check would halt the desk again, so
    the peak is set to the present equity; --keep-peak leaves it, --reset-peak sets it in any case. A flatten that is not over ends, too.
    A desk whose ledger and exchange differ goes on reducing until they agree. While the parameters name another account than the ledger's,
    it refuses: resumed before the tick that moves it, the desk would trade at the old one.

    Example: tickless resume --stage dev --keep-peak
    """
    content = resume_desk(find_desk(stage), desk_clock(), reset_peak)
    if not content["was_halted"]:
        text = f"{stage} is not halted; nothing was changed"
    else:
        now = (
            "active again"
            if content["state"] == "ACTIVE"
            else "no longer halted, but reduces: it only sells until ledger and exchange agree"
        )
        text = f"{stage} is {now} (was halted since {content['halted_since']}: {content['halt_reason']})"
    if content["peak_before"] != content["peak_equity"]:
        text += (
            f"\npeak equity {amount(content['peak_before'])} → {amount(content['peak_equity'])}: the drawdown of "
            f"{percent(content['drawdown_before_frac'])} is forgotten; its scaling and the kill switch count from here"
        )
    _print_outcome({"stage": stage, **content}, text, json_=json_)
    if content["halts_again"]:
        note(f"drawdown {percent(content['drawdown_frac'])} is still at the kill switch: the next risk check halts the desk again")


def flatten(
    stage: Stage = "dev",
    yes: Annotated[bool, typer.Option("--yes", help="Yes, sell everything.")] = False,
    reason: Reason = "by hand",
    json_: Json = False,
) -> None:
    """Halt the desk, cancel its open orders and sell everything it holds at market, at the next risk check.

    What cannot be sold then is tried again at every risk check. The desk stays halted when it is over; `tickless resume` ends both.

    Example: tickless flatten --stage prod --yes --reason "leaving the exchange"
    """
    if not yes:
        raise RefusedError(f"flatten sells everything that {stage} holds, at market; say --yes")
    _check_reason(reason)
    wanted, before = flatten_desk(find_desk(stage).cloud.ledger, desk_clock(), reason.strip())
    content = {"stage": stage, "state": "HALTED", "since": iso(wanted.since), "reason": wanted.reason, "already_flattening": before}
    text = (
        f"{stage} sells everything {'already, ' if before else ''}since {iso(wanted.since)}, from the next risk check on: {wanted.reason}"
    )
    _print_outcome(content, text, json_=json_)


def accept(
    stage: Stage = "dev",
    yes: Annotated[bool, typer.Option("--yes", help="Yes, the exchange is right and the ledger wrong.")] = False,
    reason: Reason = "by hand",
    json_: Json = False,
) -> None:
    """Let a desk that reduces take over what the exchange holds: what is missing is written off, cash is set to what is there.

    The next tick does it, once no order's outcome is unknown, and only if the difference is the one that status shows now.

    Example: tickless accept --stage prod --yes --reason "sold by hand"
    """
    if not yes:
        raise RefusedError(f"accept writes off what {stage}'s exchange does not have; say --yes")
    _check_reason(reason)
    wanted, before = accept_desk(find_desk(stage).cloud.ledger, desk_clock(), reason.strip())
    content = {
        "stage": stage,
        "since": iso(wanted.since),
        "reason": wanted.reason,
        "mismatch": wanted.mismatch,
        "already_accepting": before,
    }
    text = f"{stage} takes over what the exchange holds {'already, ' if before else ''}from the next tick on: {wanted.mismatch}"
    _print_outcome(content, text, json_=json_)


def _check_reason(reason: str) -> None:
    """Raise InputError for a reason that says nothing, or more than the ledger and an alert should carry."""
    length = len(reason.strip())
    if not length:
        raise InputError("--reason: must say why")
    if length > MOST_REASON_CHARS:
        raise InputError(f"--reason: has {length} characters, at most {MOST_REASON_CHARS}")


def halt_desk(ledger: Ledger, clock: Clock, reason: str) -> tuple[Halt, bool]:
    """Halt a desk; returns the halt in force and whether it was there before (it then stays as it is).

    Raises InputError for a desk that has never run, LeaseHeldError where a tick does not finish in time.
    """
    with _leased(ledger, clock, "halt by a person") as (fence, state):
        if state.halt is not None:
            return state.halt, True
        halted = Halt(reason, clock.now().replace(microsecond=0))
        ledger.journal(fence, [LedgerUpdate(desk=replace(state, halt=halted))])
        return halted, False


def flatten_desk(ledger: Ledger, clock: Clock, reason: str) -> tuple[Flatten, bool]:
    """Halt a desk and let its risk checks sell everything; returns what is in force and whether it was there before.

    Raises as ``halt_desk`` does.
    """
    with _leased(ledger, clock, "flatten by a person") as (fence, state):
        if state.flatten is not None and state.halt is not None:
            return state.flatten, True
        now = clock.now().replace(microsecond=0)
        wanted = state.flatten or Flatten(reason, now)
        ledger.journal(fence, [LedgerUpdate(desk=replace(state, flatten=wanted, halt=state.halt or Halt(f"flatten: {reason}", now)))])
        return wanted, False


def accept_desk(ledger: Ledger, clock: Clock, reason: str) -> tuple[Accept, bool]:
    """Let the next tick take over what the exchange holds; returns what is in force and whether it was there before.

    Raises as ``halt_desk`` does, and RefusedError for a desk whose ledger and exchange agree.
    """
    with _leased(ledger, clock, "accept by a person") as (fence, state):
        if state.reducing is None:
            raise RefusedError(f"the desk is {state.mode}, its ledger and the exchange agree: there is nothing to accept")
        if state.accept is not None and state.accept.mismatch == state.reducing.reason:
            return state.accept, True
        wanted = Accept(reason, clock.now().replace(microsecond=0), state.reducing.reason)
        ledger.journal(fence, [LedgerUpdate(desk=replace(state, accept=wanted))])
        return wanted, False


def resume_desk(desk: DeployedDesk, clock: Clock, reset_peak: bool | None) -> dict[str, Any]:
    """Resume a desk; returns what was and what is. ``reset_peak`` None: only where the kill switch would halt it again at once.

    A desk that is not halted is left as it is. Raises as ``halt_desk`` does, SettingsError where no kill switch can be read, and
    RefusedError while the parameters name another account than the ledger's.
    """
    from tickless.execution.rounding import exact, money
    from tickless.pipeline import portfolio_value
    from tickless.risk.drawdown import drawdown_frac, kill_switch_trips

    ledger = desk.cloud.ledger
    with _leased(ledger, clock, "resume by a person") as (fence, state):
        if state.halt is not None:
            refuse_resume(desk.cloud.parameters.read(), state)
        settings, _ = settings_of(desk, state)
        if settings is None:
            raise SettingsError("parameters: cannot be read as settings, so nobody knows the kill switch; `tickless params show` says why")
        equity = portfolio_value(state, {})
        before = drawdown_frac(equity, float(state.peak_equity))
        trips = kill_switch_trips(before, settings.risk)
        reset = state.halt is not None and (trips if reset_peak is None else reset_peak)
        peak = money(exact(equity)) if reset else state.peak_equity
        if state.halt is not None:
            ledger.journal(fence, [LedgerUpdate(desk=replace(state, halt=None, flatten=None, peak_equity=peak))])
    return {
        "state": "REDUCING" if state.reducing is not None else "ACTIVE",
        "was_halted": state.halt is not None,
        "was_flattening": state.flatten is not None,
        "halted_since": iso(state.halt.since) if state.halt else None,
        "halt_reason": state.halt.reason if state.halt else None,
        "equity": plain(money(exact(equity))),
        "peak_before": plain(state.peak_equity),
        "peak_equity": plain(peak),
        "drawdown_before_frac": before,
        "drawdown_frac": drawdown_frac(equity, float(peak)),
        "halts_again": trips and not reset,
    }


@contextmanager
def _leased(ledger: Ledger, clock: Clock, owner: str) -> Iterator[tuple[Fence, DeskState]]:
    """The desk's lease and its state read under it."""
    fence = _acquire(ledger, clock, owner)
    try:
        state = ledger.load()
        if state is None:
            raise InputError("the desk has never run: there is no state to change; its first tick makes it")
        yield fence, state
    finally:
        ledger.release(fence)


def _acquire(ledger: Ledger, clock: Clock, owner: str) -> Fence:
    deadline = clock.now() + timedelta(seconds=LEASE_WAIT_S)
    waiting = False
    while True:
        now = clock.now()
        try:
            return ledger.acquire(owner, now, LEASE_TTL_S)
        except LeaseHeldError as error:
            if now >= deadline:
                raise
            if not waiting:
                note(f"waiting for the tick that runs: {error}")
            waiting = True
            clock.sleep(POLL_S)


def _print_outcome(content: Mapping[str, Any], text: str, *, json_: bool) -> None:
    if json_:
        print_json(content)
    else:
        typer.echo(text)
