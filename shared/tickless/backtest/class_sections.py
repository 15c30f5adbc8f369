"""The parts of ``models.html`` that only classifiers have: the log loss saved against the base rate, and calibration."""

from __future__ import annotations

import math

from tickless.backtest import charts, model_charts
from tickless.backtest.model_charts import Column, loss_text, percent_text
from tickless.backtest.report_tables import Cell, table
from tickless.backtest.walk_results import OverTime
from tickless.learn.challenge import Score
from tickless.learn.classification import ClassMeasures
from tickless.learn.walk_forward import ModelWalk
from tickless.types import from_ms

Measure = tuple[str, str, str, str]
"""A row of measures: what it is called, its name, what it has to beat, how it is written."""
MEASURES: tuple[Measure, ...] = (
    ("Log loss", "log_loss", "log_loss_base", "error"),
    ("t of the log loss saved", "skill_t", "gate_t", "t"),
    ("AUC", "auc", "half", "error"),
)


def saved(walk: ModelWalk, curve: OverTime, times: charts.TimeAxis) -> str:
    """The log loss saved, by fold and over time."""
    columns = []
    every = max(1, math.ceil(len(walk.folds) / 8))
    for n, result in enumerate(walk.folds):
        at = from_ms(result.fold.validation_from_ms)
        label = f"{at:%-d %b}" if n % every == 0 else ""
        mine, linear = (_saved(score.classes if score else None) for score in _scores(walk, n))
        title = f"{at:%-d %B}: {loss_text(mine)}; linear {loss_text(linear)}" if result.tested else result.skipped
        columns.append(Column(label, title, mine, beside=linear))
    legend = (
        '<ul class="legend"><li><i class="box gain"></i>above zero</li><li><i class="box loss"></i>below</li>'
        '<li><i class="beside"></i>linear baseline</li></ul>'
    )
    by_fold = model_charts.column_plot(f"saved-folds-{walk.spec.name}", columns, loss_text)
    text = "In nats a row, against always forecasting how often the event came in the fold: above zero, the model knew more than that."
    folds = f'<div class="card low"><h2>Log loss saved by fold</h2><p class="soft">{text}</p>{legend}{by_fold}</div>'
    lines = (
        '<ul class="legend"><li><i class="desk"></i>mean of all ticks up to the day, against the base rate of all test rows</li>'
        '<li><i class="box band"></i>95 % interval, robust to overlapping labels</li><li><i class="linear"></i>linear baseline</li></ul>'
    )
    plot = model_charts.mean_plot(f"saved-{walk.spec.name}", curve, times, loss_text)
    return f'{folds}<div class="card low"><h2>Log loss saved over time</h2>{lines}{plot}</div>'


def _scores(walk: ModelWalk, n: int) -> tuple[Score | None, Score | None]:
    tested = walk.folds[n].tested
    return (tested.score, tested.linear_score) if tested else (None, None)


def _saved(classes: ClassMeasures | None) -> float:
    return classes.log_loss_base - classes.log_loss if classes else math.nan


def calibration(walk: ModelWalk) -> str:
    """Forecasts against frequencies, and the measures of a classifier; nothing where the model is none."""
    classes: ClassMeasures | None = walk.score.classes
    if classes is None:
        return ""
    curve = [part for part in classes.curve if part.count]
    plot = model_charts.reliability_plot(f"calibration-{walk.spec.name}", curve, percent_text) if curve else ""
    linear = walk.linear_score.classes if walk.linear_score else None
    rows: list[list[Cell]] = [
        ["Log loss", f"{classes.log_loss:.4f}", f"{classes.log_loss_base:.4f}", f"{linear.log_loss:.4f}" if linear else "–"],
        ["Brier score", f"{classes.brier:.4f}", f"{classes.brier_base:.4f}", f"{linear.brier:.4f}" if linear else "–"],
        ["AUC", f"{classes.auc:.4f}", "0.5000", f"{linear.auc:.4f}" if linear else "–"],
        ["Calibration error", f"{classes.calibration_error:.4f}", "0.0000", f"{linear.calibration_error:.4f}" if linear else "–"],
    ]
    head = (("Measure", "t"), ("Model", ""), ("Base rate", ""), ("Linear", ""))
    text = f"The event came in {percent_text(classes.base_rate)} of the rows. On the dotted line forecasts and frequencies agree."
    return (
        f'<div class="card low"><h2>Calibration</h2><p class="soft">{text}</p>{plot}{table(f"classes-{walk.spec.name}", head, rows)}</div>'
    )
