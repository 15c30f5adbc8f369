"""Gates: a model is promoted only if it beats both doing nothing and the current champion, after costs.

What stands for doing nothing: for a model that chooses among pairs, holding all of them with the same exposure, at no cost; for a model of
one pair, cash. A slice of a few weeks rises or falls by more than choosing can earn. Measured against cash alone, half of the worthless
models that pass the other gates would pass this one too, and half of the good ones would not. So cash is the second bar: the net return
must not lie below it by more than chance explains. docs/models.md has the rates of false and missed promotions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tickless.learn.classification import ClassMeasures
from tickless.learn.measures import MIN_PAIRS
from tickless.learn.trials import Tried
from tickless.learn.validate import Measures


@dataclass(frozen=True)
class Gates:
    """What a challenger must exceed."""

    min_rank_ic: float = 0.0
    min_rank_ic_t: float = 2.5
    """Also for the t of the error saved, where a model of one pair or a classifier has no rank IC."""
    min_periods: float = 10.0
    """Label lengths of validation that share nothing."""
    max_loss_t: float = 2.0
    """So many standard errors below cash the net return may lie."""
    max_calibration_error: float = 0.10
    min_deflated_sharpe: float = 0.95
    """Where trials are given: the probability that the chosen one's Sharpe ratio is not just that of the luckiest."""
    max_overfitting: float = 0.5
    """Where trials are given: the probability of backtest overfitting."""


@dataclass(frozen=True)
class GateDecision:
    """Whether to promote, and why: one sentence a gate, those that failed first."""

    promote: bool
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str:
        """All reasons as one line."""
        return "; ".join(self.reasons)

    def also(self, passed: bool, reason: str) -> GateDecision:
        """The decision with one gate more; what failed stays in front."""
        reasons = (*self.reasons, reason) if passed else (reason, *self.reasons)
        return GateDecision(self.promote and passed, reasons)


ALONE = Tried()
"""One specification, tried alone."""
_Check = tuple[bool, str]


def decide(
    challenger: Measures, champion: Measures | None, gates: Gates, same_rows: Measures | None = None, tried: Tried = ALONE
) -> GateDecision:
    """Judge a challenger.

    ``champion`` are the champion's measures, None where there is none. ``same_rows`` are the challenger's on the rows on which the
    champion was measured, where those are fewer than all. ``tried`` says how many specifications the challenger's was chosen from. A
    measure that is NaN, or not told, fails its gate.
    """
    mine = challenger if same_rows is None else same_rows
    chooses = challenger.pairs >= MIN_PAIRS
    checks = [_above("independent periods", challenger.periods, gates.min_periods, "the limit", digits=1)]
    if chooses:
        checks += [
            _above("mean rank IC", challenger.rank_ic, gates.min_rank_ic, "the limit"),
            _above("t of rank IC", challenger.rank_ic_t, gates.min_rank_ic_t, "the limit"),
            _above("net top-k return over the market's", challenger.top_k_active_frac, 0.0, "doing nothing"),
            _not_below_cash(challenger, gates.max_loss_t),
        ]
    else:
        checks += [
            _above("t of the squared error saved", challenger.rmse_t, gates.min_rank_ic_t, "the limit"),
            _above("net return", challenger.top_k_net_frac, challenger.cash_frac, "doing nothing"),
        ]
    if champion is not None:
        what = "net top-k return over the market's" if chooses else "net return"
        ours, theirs = (part.top_k_active_frac if chooses else part.top_k_net_frac for part in (mine, champion))
        checks.append(_above(what, ours, theirs, "the champion"))
    return _decision(checks, tried, gates, first=champion is None)


def decide_classifier(
    challenger: ClassMeasures,
    champion: ClassMeasures | None,
    gates: Gates,
    same_rows: ClassMeasures | None = None,
    tried: Tried = ALONE,
) -> GateDecision:
    """Judge a challenger that forecasts probabilities: against the base rate, its own word, and the champion; arguments as ``decide``'s.

    What its trades earn is for the strategy's own measures; a caller that has them adds their gate with ``GateDecision.also``.
    """
    mine = challenger if same_rows is None else same_rows
    checks = [
        _above("independent periods", challenger.periods, gates.min_periods, "the limit", digits=1),
        _below("log loss", challenger.log_loss, challenger.log_loss_base, "the base rate"),
        _above("t of the log loss saved", challenger.skill_t, gates.min_rank_ic_t, "the limit"),
        _above("AUC", challenger.auc, 0.5, "chance"),
        _below("calibration error", challenger.calibration_error, gates.max_calibration_error, "the limit"),
    ]
    if champion is not None:
        checks.append(_below("log loss", mine.log_loss, champion.log_loss, "the champion"))
    return _decision(checks, tried, gates, first=champion is None)


def _decision(checks: list[_Check], tried: Tried, gates: Gates, *, first: bool) -> GateDecision:
    if tried.count > 1:
        what = f"deflated Sharpe ratio of the best of {tried.count}"
        deflated = math.nan if tried.deflated_sharpe is None else tried.deflated_sharpe
        checks.append(_above(what, deflated, gates.min_deflated_sharpe, "the limit"))
        if tried.overfitting is not None:
            checks.append(_below("probability of overfitting", tried.overfitting, gates.max_overfitting, "the limit"))
    failed = tuple(text for passed, text in checks if not passed)
    passed = tuple(text for passed, text in checks if passed)
    if first:
        passed += ("there is no champion to beat",)
    return GateDecision(promote=not failed, reasons=failed + passed)


def _not_below_cash(challenger: Measures, max_loss_t: float) -> _Check:
    earned = challenger.top_k_net_frac
    if not math.isnan(earned) and earned >= challenger.cash_frac:
        return True, f"net top-k return {earned:.5f} is not below {challenger.cash_frac:.5f}, cash"
    return _above("t of net top-k return", challenger.top_k_net_t, -max_loss_t, "what chance explains below cash")


def _above(what: str, value: float, limit: float, whose: str, digits: int = 5) -> _Check:
    return _compare(what, value, limit, whose, "above", value > limit, digits)


def _below(what: str, value: float, limit: float, whose: str, digits: int = 5) -> _Check:
    return _compare(what, value, limit, whose, "below", value < limit, digits)


def _compare(what: str, value: float, limit: float, whose: str, word: str, passed: bool, digits: int) -> _Check:
    if math.isnan(value):
        return False, f"{what} cannot be told from so few rows"
    if math.isnan(limit):
        return False, f"{what} {value:.{digits}f} cannot be compared: {whose} has too few rows"
    return passed, f"{what} {value:.{digits}f} is {'' if passed else 'not '}{word} {limit:.{digits}f}, {whose}"
