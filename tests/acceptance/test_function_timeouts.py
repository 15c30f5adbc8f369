"""Lambda's time-out in the middle of a tick: the real handler under AWS's own runtime client, killed at its deadline."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.conftest import Row
from tests.acceptance.matrix import RETRY_S, Desk, Difference, Matrix, Worlds, differences
from tests.acceptance.runtime_api import ANSWERED, FAILED, TIMED_OUT, Invocation
from tests.acceptance.timeouts import IN_TIME, MOMENTS, Functions, Moment, disagreements, furnish_functions

TIMEOUT_S = 6.0
"""Time enough to come to each of the moments; a machine so busy that it is not ends the tick at an earlier one."""
SHORT_S = 4.0
"""For the first moments, so that every run of the tests can try one."""
FIRST_ORDER = next(moment for moment in MOMENTS if moment.request.startswith("POST"))
WHAT = "Lambda's time-out, tick retried"
WHAT_NEXT = "Lambda's time-out, next tick only"


@pytest.fixture(scope="module")
def functions(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Functions:
    matrix = Matrix.of(worlds, "feature_rebalance")
    assert matrix.orders >= 2
    furnish_functions(matrix.start)  # The one change to what the matrix starts from: a secret, which no other test looks at.
    return Functions(matrix, tmp_path_factory.mktemp("functions"))


@pytest.fixture
def desk(functions: Functions) -> Iterator[Desk]:
    copy = functions.matrix.start.fork()
    yield copy
    copy.end()


def test_a_function_killed_at_its_deadline_with_an_order_on_its_way_is_retried_to_the_same_end(functions: Functions, desk: Desk) -> None:
    assert retried(functions, desk, FIRST_ORDER, functions.matrix.name, SHORT_S) == []
    assert_nothing_outlasts(functions)


@pytest.mark.acceptance
def test_a_function_that_is_not_disturbed_comes_to_what_the_matrix_compares_with(functions: Functions, desk: Desk) -> None:
    came = functions.deliver(desk, desk.scene.bar)
    assert came.outcome == ANSWERED, came.payload
    assert list(differences(functions.matrix.name, "in Lambda", functions.matrix.retried, desk.outcome())) == []


@pytest.mark.acceptance
def test_at_every_moment_a_retry_with_the_same_request_id_comes_to_the_undisturbed_end(functions: Functions, table: list[Row]) -> None:
    found = {moment: with_a_copy(functions, moment, retried) for moment in MOMENTS}
    table.append(row(functions, WHAT, found))
    assert [difference for differences in found.values() for difference in differences] == []
    assert_nothing_outlasts(functions)


@pytest.mark.acceptance
def test_at_every_moment_the_next_tick_alone_makes_ledger_and_exchange_agree(functions: Functions, table: list[Row]) -> None:
    found = {moment: with_a_copy(functions, moment, not_retried) for moment in (*MOMENTS, IN_TIME)}
    table.append(row(functions, WHAT_NEXT, found))
    assert [difference for differences in found.values() for difference in differences] == []
    assert_nothing_outlasts(functions)


def with_a_copy(functions: Functions, moment: Moment, attempt: Callable[..., list[Difference]]) -> list[Difference]:
    copy = functions.matrix.start.fork()
    try:
        return attempt(functions, copy, moment, f"{functions.matrix.name}, out of time as {moment.name}")
    finally:
        copy.end()


def retried(functions: Functions, desk: Desk, moment: Moment, where: str, timeout_s: float = TIMEOUT_S) -> list[Difference]:
    """Killed, then the same event under the same request id, then the next tick: both times as undisturbed."""
    found = ended_as_planned(functions.end(desk, moment, timeout_s), moment, where)
    again = functions.deliver(desk, desk.scene.bar, late_s=RETRY_S)
    if again.outcome != ANSWERED:
        return [*found, Difference(where, f"the retry came to {again.outcome}: {again.payload}")]
    found += differences(where, "after the retry", functions.matrix.retried, desk.outcome())
    following = desk.tick(desk.scene.next_function, desk.scene.bar + 1)
    if following["status"] != "done" or "LedgerMismatch" in following["metrics"]:
        return [*found, Difference(where, f"the next tick came to {following}")]
    return [*found, *differences(where, "after the next tick", functions.matrix.later, desk.outcome())]


def not_retried(functions: Functions, desk: Desk, moment: Moment, where: str) -> list[Difference]:
    """Killed, then only the next tick. What was sent is booked; what was not is cancelled, and no longer sent: it is too late.

    Where every order had been sent, that is the undisturbed end again.
    """
    came = functions.end(desk, moment, TIMEOUT_S)
    found = [] if moment is IN_TIME else ended_as_planned(came, moment, where)
    following = functions.deliver(desk, desk.scene.bar + 1, function=desk.scene.next_function)
    if following.outcome != ANSWERED:
        return [*found, Difference(where, f"the next tick came to {following.outcome}: {following.payload}")]
    found += disagreements(where, desk)
    if moment.write == "booking" and not moment.request:
        expected = {part: functions.matrix.later[part] for part in ("cash", "positions", "fills", "trades", "balances", "accepted", "sent")}
        found += differences(where, "after the next tick", expected, desk.outcome() | {"resent": []})
    return found


def ended_as_planned(came: Invocation, moment: Moment, where: str) -> list[Difference]:
    """Where the ledger cannot be written, time runs out; a question that is not answered is given up in time."""
    expected = {TIMED_OUT} if moment.write else {FAILED, TIMED_OUT}
    return [] if came.outcome in expected else [Difference(where, f"it {came.outcome}: {came.payload}")]


def assert_nothing_outlasts(functions: Functions) -> None:
    """No request to the exchange may take longer than the function has."""
    told = functions.told()
    assert len(told) >= 20
    assert [line for line in told if not 0 < line["timeout_s"] <= line["left_s"]] == []


def row(functions: Functions, what: str, found: dict[Moment, list[Difference]]) -> Row:
    matrix = functions.matrix
    return Row(matrix.start.scene.venue, matrix.name, what, matrix.orders, len(found), sum(not one for one in found.values()))
