"""``tickless practise``: the commands of a deployed desk, typed on a local AWS."""

import pytest

from tickless.cli.practising import START, _outcome
from tickless.localcloud import InvocationResult
from tickless.types import Tick

DAY = (
    "tick",
    "positions",
    "halt --reason drill",
    "tickless tick 2",
    "tickless status",
    "resume",
    "flatten --yes",
    "tick",
    "status",
    "orders --last 1",
    "resume",
)
WRONG = (
    "",
    "tick many",
    "nope",
    "demo",
    "practise",
    "invoke scan --event e.json --local",
    "params set desk.mode live --live",
    'halt "',
    "exit",
    "status",
)


def test_a_halt_and_a_flatten_are_practised_without_an_account(tickless):
    result = tickless("practise", stdin="\n".join(DAY))
    out = result.stdout
    assert "2024-06-03T00:00:00Z: risk_check done, 0 orders, full_rebalance done, " in out
    assert "dev is halted since" in out
    assert "HALTED since" in out
    assert out.count("dev is halted since 2024-06-03T00:00:01Z: drill") == 1, "by the clock of the practice"
    assert "OVERDUE" not in out
    assert "2024-06-03T00:30:00Z: risk_check done, 0 orders, feature_rebalance done, " in out
    assert "dev is active again" in out
    assert "dev sells everything" in out
    assert "flatten" in out[out.rindex("orders of dev") :]
    assert out.count("active again") == 2
    assert result.stderr.count("tickless:") == 0


def test_what_is_wrong_ends_no_practice(tickless):
    result = tickless("practise", "--set", "desk.name=drill", stdin="\n".join(WRONG))
    told = [line for line in result.stderr.splitlines() if line.startswith("tickless: ")]
    assert [line.split(":")[1].strip() for line in told] == [
        "tick many",
        "No such command 'nope'. Did you mean 'invoke'? `tickless --help` shows how",
        "demo",
        "practise",
        "invoke",
        "--live",
        "No closing quotation",
    ]
    assert result.stdout == "", "exit is the end"


@pytest.mark.parametrize(("count", "told"), [(0, "0 orders"), (1, "1 order"), (2, "2 orders")])
def test_one_order_is_no_orders(count, told):
    result = InvocationResult("risk_check", "1", {"status": "done", "orders": count}, None, (), (), 0.0)
    assert _outcome(Tick(START, "risk_check"), result) == f"done, {told}"


def test_no_desk_goes_live_there(tickless):
    live = ("--set", "desk.mode=live", "--set", "desk.secret_name=desk/keys")
    assert "practise with --set desk.mode=dry_run" in tickless.refused("practise", *live, code=3)
