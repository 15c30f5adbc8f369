"""The parts of ``models.html`` that speak of models: measures beside their baselines, over folds, importance and drift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from tickless.backtest import charts, class_sections, model_charts
from tickless.backtest.class_sections import Measure
from tickless.backtest.model_charts import Column, ic_text, loss_text, percent_text
from tickless.backtest.report_tables import Cell, share, table
from tickless.backtest.walk_results import OverTime, Times, WalkRecord, ic_over_time, saved_over_time
from tickless.bars import Floats
from tickless.learn.challenge import Score
from tickless.learn.classification import ClassMeasures
from tickless.learn.measures import MIN_PAIRS
from tickless.learn.validate import Measures
from tickless.learn.walk_forward import ModelWalk
from tickless.types import from_ms

_PSI_LIMIT = 0.25


def overview(record: WalkRecord) -> str:
    """All models out of fold, each measure beside what it has to beat."""
    columns = [("Measure", "t"), ("To beat", "")]
    for walk in record.walks:
        columns += [(walk.spec.name, ""), ("its linear baseline", "")]
    rows, untold = [], []
    for measure in (*class_sections.MEASURES, *_MEASURES):
        scores = [_told(walk, measure) for walk in record.walks]
        if any(mine is not None for mine, _ in scores):
            rows.append(_measure_row(record, measure, scores))
        elif measure in _MEASURES:
            untold.append(measure[0])
    text = "On all test rows of all folds. Forecasts are judged as returns in units of the label's scale; what is earned is plain."
    left = f" Left out, because these rows cannot tell it: {'; '.join(untold)}." if untold else ""
    return f'<section class="card"><h2>Out of fold</h2><p class="soft">{text}{left}</p>{table("measures", columns, rows)}</section>'


_Measured = Measures | ClassMeasures
_Told = tuple[_Measured | None, _Measured | None]


def _told(walk: ModelWalk, measure: Measure) -> _Told:
    """(What holds the measure of the model, of its linear baseline); None where it cannot be told."""
    of_classes, key = measure in class_sections.MEASURES, "rank_ic_low" if measure[1] == "rank_ic_interval" else measure[1]

    def part(score: Score | None) -> _Measured | None:
        found: _Measured | None = None if score is None else score.classes if of_classes else score.measures
        return None if found is None or math.isnan(float(getattr(found, key))) else found

    return part(walk.score), part(walk.linear_score)


def _measure_row(record: WalkRecord, measure: Measure, scores: Sequence[_Told]) -> list[Cell]:
    label, key, baseline, form = measure
    bars = [_bar_to_pass(record, walk, mine, baseline, form) for walk, (mine, _) in zip(record.walks, scores, strict=True)]
    row: list[Cell] = [label, bars[0] if len(set(bars)) == 1 else "see right"]
    for bar, (mine, linear) in zip(bars, scores, strict=True):
        beside = f" ({bar})" if bar and len(set(bars)) > 1 else ""
        row += [_value(mine, key, form) + beside if mine else "cannot be told", _value(linear, key, form) if linear else "–"]
    return row


_MEASURES: tuple[Measure, ...] = (
    ("Rank IC, mean", "rank_ic", "zero", "ic"),
    ("Rank IC, 95 % interval", "rank_ic_interval", "", "ic"),
    ("t of the rank IC", "rank_ic_t", "gate_t", "t"),
    ("RMSE", "rmse", "rmse_zero", "error"),
    ("MAE", "mae", "mae_zero", "error"),
    ("t of the squared error saved", "rmse_t", "gate_t", "t"),
    ("Hit rate", "hit_rate", "hit_rate_baseline", "share"),
    ("Highest less lowest quantile, before cost", "quantile_spread_frac", "zero", "share"),
    ("Best pairs, net of cost, a rebalance", "top_k_net_frac", "cash_frac", "share"),
    ("The same less the market's move", "top_k_active_frac", "zero", "share"),
    ("t of that", "top_k_active_t", "two", "t"),
    ("Turnover a rebalance", "top_k_turnover", "", "t"),
    ("All pairs alike, before cost", "universe_frac", "", "share"),
    ("Label lengths that share nothing", "periods", "ten", "count"),
)


def _bar_to_pass(record: WalkRecord, walk: ModelWalk, measures: _Measured | None, baseline: str, form: str) -> str:
    """What a measure has to beat; the gate's own limit where it has one."""
    if baseline == "gate_t":
        return f"{max(walk.spec.gates.min_rank_ic_t, record.settings.training.min_rank_ic_t):.2f}"
    return _value(measures, baseline, form) if baseline and measures else ""


def _value(measures: _Measured, key: str, form: str) -> str:
    constants = {"zero": 0.0, "half": 0.5, "two": 2.0, "ten": 10.0}
    if key == "rank_ic_interval" and isinstance(measures, Measures):
        return f"{ic_text(measures.rank_ic_low)} to {ic_text(measures.rank_ic_high)}"
    value = constants[key] if key in constants else float(getattr(measures, key))
    if math.isnan(value):
        return "cannot be told"
    texts = {"ic": f"{value:z.4f}", "t": f"{value:z.2f}", "error": f"{value:.4f}", "share": share(value), "count": f"{value:.0f}"}
    return texts[form].replace("-", "−")


@dataclass(frozen=True)
class Curves:
    """What one model's charts over time draw."""

    ic: OverTime
    saved: OverTime | None
    """The log loss saved; None where the model is no classifier."""

    @classmethod
    def of(cls, walk: ModelWalk, at_ms: Times) -> Curves:
        """At the given times."""
        return cls(ic_over_time(walk, at_ms), saved_over_time(walk, at_ms) if walk.score.classes else None)

    def plots(self, name: str) -> dict[str, list[dict[str, Any]]]:
        """The values that show when one points at a chart."""
        told = [("ic", "Mean rank IC so far", self.ic, ic_text), ("saved", "Mean log loss saved so far", self.saved, loss_text)]
        return {
            f"{key}-{name}": [
                {"name": title, "format": "text", "values": [form(value) for value in values.tolist()]}
                for title, values in ((what, curve.mean), ("Linear baseline", curve.linear))
            ]
            for key, what, curve, form in told
            if curve is not None and _any(curve.mean)
        }


def model(walk: ModelWalk, curves: Curves, times: charts.TimeAxis) -> str:
    """Everything about one model; a chart that nothing can be drawn in is left out, and named."""
    spec = walk.spec
    opened = "Its forecasts, taken together, would have opened the gates." if walk.gate.promote else "They would not have opened the gates."
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in walk.gate.reasons)
    head = (
        f"<h2>{escape(spec.name)}</h2><p>{escape(spec.algorithm)}, {spec.horizon_h:g} hours ahead. {opened}</p>"
        f'<details><summary>Gate by gate</summary><ul class="reasons">{reasons}</ul></details>'
    )
    ranks = {"by fold": _folds(walk), "over time": _over_time(walk, curves.ic, times), "by horizon": _decay(walk)}
    quantiles = _quantiles(walk)
    pair = ranks["by horizon"] + quantiles
    pair = f'<div class="two">{pair}</div>' if pair else ""
    return (
        f'<section class="model">{head}<p></p>{_left_out([name for name, part in ranks.items() if not part], bool(quantiles))}'
        f"{class_sections.saved(walk, curves.saved, times) if curves.saved else ''}"
        f"{ranks['by fold']}{ranks['over time']}{pair}"
        f"{class_sections.calibration(walk)}{_importance(walk)}{_drift(walk)}{_fold_table(walk)}</section>"
    )


def _left_out(ranks: Sequence[str], quantiles: bool) -> str:
    """Why there are charts that other models have."""
    named = ([f"rank IC {', '.join(ranks)}"] if ranks else []) + ([] if quantiles else ["what forecasts were followed by"])
    if not named:
        return ""
    why = f"they compare the pairs of one tick, and no tick has enough of them (a rank IC takes {MIN_PAIRS})"
    return f'<p class="soft">Left out: {"; ".join(named)}: {why}.</p>'


def _any(values: Sequence[float] | Floats) -> bool:
    return bool(np.isfinite(np.asarray(values, dtype=np.float64)).any())


def _folds(walk: ModelWalk) -> str:
    columns = []
    every = max(1, math.ceil(len(walk.folds) / 8))
    for n, result in enumerate(walk.folds):
        at = from_ms(result.fold.validation_from_ms)
        label = f"{at:%-d %b}" if n % every == 0 else ""
        if result.tested is None:
            columns.append(Column(label, result.skipped, math.nan))
            continue
        mine, linear = result.tested.score.measures, result.tested.linear_score
        beside = linear.measures.rank_ic if linear else math.nan
        span = f"95 % {ic_text(mine.rank_ic_low)} to {ic_text(mine.rank_ic_high)}"
        title = f"{at:%-d %B}: {ic_text(mine.rank_ic)}, {span}; linear {ic_text(beside)}"
        columns.append(Column(label, title, mine.rank_ic, mine.rank_ic_low, mine.rank_ic_high, beside))
    if not _any([column.value for column in columns]):
        return ""
    plot = model_charts.column_plot(f"folds-{walk.spec.name}", columns, lambda value: ic_text(value)[:-1])
    legend = (
        '<ul class="legend"><li><i class="box gain"></i>above zero</li><li><i class="box loss"></i>below</li>'
        '<li><i class="whisker"></i>95 % interval</li><li><i class="beside"></i>linear baseline</li></ul>'
    )
    return f'<div class="card low"><h2>Rank IC by fold</h2>{legend}{plot}</div>'


def _over_time(walk: ModelWalk, curve: OverTime, times: charts.TimeAxis) -> str:
    if not _any(curve.mean):
        return ""
    plot = model_charts.mean_plot(f"ic-{walk.spec.name}", curve, times, ic_text)
    legend = (
        '<ul class="legend"><li><i class="desk"></i>mean rank IC of all forecasts up to the day</li><li><i class="box band"></i>'
        '95 % interval, robust to overlapping labels</li><li><i class="linear"></i>linear baseline</li></ul>'
    )
    return f'<div class="card low"><h2>Rank IC over time</h2>{legend}{plot}</div>'


def _decay(walk: ModelWalk) -> str:
    decay = walk.score.measures.rank_ic_decay
    if not _any(list(decay.values())):
        return ""
    linear = walk.linear_score.measures.rank_ic_decay if walk.linear_score else {}
    columns = [
        Column(f"{hours} h", f"{hours} h: {ic_text(value)}", value, beside=linear.get(hours, math.nan)) for hours, value in decay.items()
    ]
    plot = model_charts.column_plot(f"decay-{walk.spec.name}", columns, ic_text)
    text = "The same forecasts against the return over longer horizons."
    return f'<div class="card low"><h2>Decay of the rank IC</h2><p class="soft">{text}</p>{plot}</div>'


def _quantiles(walk: ModelWalk) -> str:
    values = walk.score.measures.quantile_returns_frac
    if not _any(values):
        return ""
    columns = [Column(str(n), f"{n}: {percent_text(value)}", value) for n, value in enumerate(values, start=1)]
    plot = model_charts.column_plot(f"quantiles-{walk.spec.name}", columns, percent_text)
    text = "Mean return over the horizon by quantile of the forecast, lowest first, before cost: it should rise."
    return f'<div class="card low"><h2>What forecasts were followed by</h2><p class="soft">{text}</p>{plot}</div>'


def _importance(walk: ModelWalk) -> str:
    versions = [version for _, version in walk.tested]
    if not versions:
        return ""
    gain, lost = (_means([getattr(version, name) for version in versions]) for name in ("gain", "permutation"))
    order = np.argsort(-np.nan_to_num(gain), kind="stable")
    most, largest = (max(1e-12, float(np.nan_to_num(np.abs(values)).max())) for values in (gain, lost))
    ranked = _any(lost)
    lines = "".join(
        f'<tr><td class="t">{escape(walk.samples.features[n])}</td><td class="t">{_bar(gain[n], most, percent_text)}</td>'
        + (f'<td class="t">{_bar(lost[n], largest, ic_text)}</td></tr>' if ranked else "</tr>")
        for n in order.tolist()
    )
    permuted = (
        "Permutation: rank IC lost on test rows when the feature's values change places; below zero, the model was better off without them."
        if ranked
        else "What shuffling a feature costs is not told: it is measured by the rank IC."
    )
    gained = "Gain: share of the loss that a feature's splits saved on the fitted rows (of a line: of its weights)."
    text = f"{gained} {permuted} Means over folds."
    permutation = '<th class="t">Permutation</th>' if ranked else ""
    head = f'<tr><th class="t">Feature</th><th class="t">Gain</th>{permutation}</tr>'
    return (
        f'<div class="card"><h2>Importance</h2><p class="soft">{text}</p><p class="hint" hidden>Scroll sideways for more columns</p>'
        f'<div class="scroll"><table class="bars"><thead>{head}</thead><tbody>{lines}</tbody></table></div></div>'
    )


def _bar(value: float, largest: float, form: model_charts.Form) -> str:
    if math.isnan(value):
        return "–"
    width = max(1.0, 90.0 * abs(value) / largest)
    return f'<i class="bar{" neg" if value < 0 else ""}" style="width:{width:.0f}px"></i>{escape(form(value))}'


def _drift(walk: ModelWalk) -> str:
    tested = walk.tested
    if not tested:
        return ""
    values = np.stack([version.psi for _, version in tested])
    drifted = np.stack([version.drifted(walk.spec.drift.psi.limit) for _, version in tested])
    cells = []
    for n, name in enumerate(walk.samples.features):
        row = "".join(
            _heat(value, version.psi_widest[n], drifted[k, n], f"{name}, {from_ms(fold.validation_from_ms):%-d %b}")
            for k, ((fold, version), value) in enumerate(zip(tested, values[:, n], strict=True))
        )
        cells.append(f'<tr><td class="name">{escape(name)}</td>{row}</tr>')
    beyond, unlike = (int(above.any(axis=1).sum()) for above in (values > _PSI_LIMIT, drifted))
    first, last = (f"{from_ms(tested[at][0].validation_from_ms):%-d %b}" for at in (0, -1))
    before = max(1, len(tested) - 3)
    head = f'<tr><th></th><th class="when" colspan="{before}">{first}</th><th class="when last" colspan="3">{last}</th></tr>'
    text = (
        f"Population stability index of each feature, the test rows of a fold against the rows its version was fitted on. Full colour is "
        f"{_PSI_LIMIT:g} and beyond, the customary limit; in {beyond} of {len(tested)} folds some feature passed it. A frame marks what is "
        f"also farther away than any window as long within the fitted rows was from the rest of them: {unlike} folds."
    )
    return (
        f'<div class="card"><h2>Drift</h2><p class="soft">{text}</p><p class="hint" hidden>Scroll sideways for more columns</p>'
        f'<div class="scroll"><table class="heat">{head if len(tested) > 3 else ""}{"".join(cells)}</table></div></div>'
    )


def _heat(value: float, widest: float, drifted: bool, title: str) -> str:
    if math.isnan(value):
        return f'<td><i title="{escape(title)}: cannot be told"></i></td>'
    frame = ' class="out"' if drifted else ""
    told = f"{title}: {value:.2f}" + ("" if math.isnan(widest) else f", within the fitted rows up to {widest:.2f}")
    return f'<td><i{frame} style="--w:{100 * min(1.0, value / _PSI_LIMIT):.0f}%" title="{escape(told)}"></i></td>'


def _fold_table(walk: ModelWalk) -> str:
    judged = [("Log loss", ""), ("base rate", ""), ("AUC", "")] if walk.score.classes else [("Rank IC", ""), ("Linear", "")]
    columns = (
        ("Tested from", "t"), ("Fitted rows", ""), ("Test rows", ""), ("Rounds", ""), *judged, ("Hit rate", ""),
        ("to beat", ""), ("RMSE", ""), ("zero forecast", ""), ("Net", ""), ("Active", ""), ("Market", ""),
    )  # fmt: skip
    rows: list[list[Cell]] = []
    for result in walk.folds:
        at = f"{from_ms(result.fold.validation_from_ms):%Y-%m-%d}"
        if result.tested is None:
            rows.append([f"{at}: {result.skipped}", *["–"] * (len(columns) - 1)])
            continue
        mine, classes, linear = result.tested.score.measures, result.tested.score.classes, result.tested.linear_score
        ranks = [mine.rank_ic, linear.measures.rank_ic if linear else math.nan]
        numbers: list[Cell] = [(float(n), f"{n:,}") for n in (len(result.tested.split.fit), mine.rows, result.tested.candidate.rounds)]
        rows.append(
            [
                at,
                *numbers,
                *map(ic_text, [classes.log_loss, classes.log_loss_base, classes.auc] if classes else ranks),
                share(mine.hit_rate),
                share(mine.hit_rate_baseline),
                f"{mine.rmse:.4f}",
                f"{mine.rmse_zero:.4f}",
                *(_signed(value) for value in (mine.top_k_net_frac, mine.top_k_active_frac, mine.universe_frac)),
            ]
        )
    text = "Net: the best pairs after cost, a rebalance. Active: the same less the market's move at that exposure. Market: all pairs alike."
    content = table(f"folds-{walk.spec.name}", columns, rows, 12)
    return f'<div class="card"><h2>Folds</h2><p class="soft">{text}</p>{content}</div>'


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else share(value, plus=True)


def _means(values: Sequence[Floats]) -> Floats:
    stacked = np.stack(values)
    known = (~np.isnan(stacked)).sum(axis=0)
    total = np.nansum(stacked, axis=0)
    result: Floats = np.divide(total, known, out=np.full(len(total), np.nan), where=known > 0)
    return result
