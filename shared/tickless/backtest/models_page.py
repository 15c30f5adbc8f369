"""``models.html``: what a walk-forward found, for reading. One page that opens offline; the same walk gives the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless import metrics
from tickless.backtest import charts, model_sections
from tickless.backtest.report import POLICY
from tickless.backtest.report_tables import Cell, share, signed, table
from tickless.backtest.results import RunRecord, write_files
from tickless.backtest.walk_results import WalkRecord
from tickless.types import to_ms

_DAY_MS = 86_400_000
Floats = NDArray[np.float64]


def write_models_page(record: WalkRecord, out: Path) -> Path:
    """Write ``models.html`` into the folder ``out`` and return its path."""
    write_files(out, [("models.html", (render(record),))])
    return out / "models.html"


def render(record: WalkRecord) -> str:
    """The whole page as text."""
    page = resources.files("tickless.backtest").joinpath("page")
    style = "".join(page.joinpath(name).read_text("utf8") for name in ("report.css", "models.css"))
    script = page.joinpath("report.js").read_text("utf8")
    days = _Days(record)
    curves = [model_sections.Curves.of(walk, days.at_ms) for walk in record.walks]
    body = "".join(
        (
            _head(record),
            _strategy(record, days),
            model_sections.overview(record),
            *(model_sections.model(walk, curve, days.times) for walk, curve in zip(record.walks, curves, strict=True)),
            _footer(record),
        )
    )
    plots = days.plots
    for walk, curve in zip(record.walks, curves, strict=True):
        plots = plots | curve.plots(walk.spec.name)
    data = {"start": days.times.start_ms, "end": days.times.end_ms, "at": days.at_ms.tolist(), "plots": plots, "tables": {}}
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Walk-forward of {escape(record.settings.desk.name)}</title><style>{style}</style></head>\n<body><main>{body}</main>"
        f'<script type="application/json" id="data">{text}</script><script>{script}</script></body></html>\n'
    )


@dataclass(frozen=True)
class _Days:
    """The time axis that all plots over time share: the midnights of what was tested."""

    record: WalkRecord

    @cached_property
    def times(self) -> charts.TimeAxis:
        return charts.TimeAxis(*(to_ms(at) for at in self.record.tested))

    @cached_property
    def at_ms(self) -> NDArray[np.int64]:
        days = np.arange(self.times.start_ms, self.times.end_ms + 1, _DAY_MS, dtype=np.int64)
        return days if days[-1] == self.times.end_ms else np.append(days, self.times.end_ms)

    def equity(self, run: RunRecord) -> Floats:
        """The run's equity at each day's beginning, the end after its last fill."""
        at = np.asarray([to_ms(row.at) for row in run.equity], dtype=np.int64)
        values = np.asarray([float(row.equity) for row in run.equity], dtype=np.float64)
        rows = np.searchsorted(at, self.at_ms, side="right") - 1
        curve = np.where(rows < 0, float(run.start_equity), values[np.maximum(rows, 0)])
        curve[-1] = float(run.end_equity)
        return np.asarray(curve, dtype=np.float64)

    def market(self, run: RunRecord) -> Floats:
        """The start equity in all pairs alike, bought once."""
        window = run.market_window
        curve = np.concatenate(([1.0], metrics.market_curve(run.market_close)))
        closed = np.clip((self.at_ms - window.start_ms) // window.step_ms, 0, len(curve) - 1)
        return np.asarray(curve[closed] * float(run.start_equity), dtype=np.float64)

    @cached_property
    def lines(self) -> list[charts.Series]:
        runs = self.record.runs
        if runs is None:
            return []
        start = float(runs.models.start_equity)
        return [
            charts.Series("Desk with models", "desk", self.equity(runs.models)),
            charts.Series("Desk without models", "fallback", self.equity(runs.fallback)),
            charts.Series("Equal weight, before cost", "equal", self.market(runs.models)),
            charts.Series("Cash", "cash", np.full(len(self.at_ms), start)),
        ]

    @cached_property
    def plots(self) -> dict[str, Any]:
        if not self.lines:
            return {}
        values = [{"name": line.name, "format": "money", "values": [round(v, 2) for v in line.values.tolist()]} for line in self.lines]
        return {"strategy": values}


def _head(record: WalkRecord) -> str:
    first, last = record.tested
    names = " and ".join(f"<b>{escape(walk.spec.name)}</b>" for walk in record.walks)
    passed = [walk.spec.name for walk in record.walks if walk.gate.promote]
    every = f"every {record.every_days:g} days, on a {'sliding' if record.sliding else 'growing'} window"
    verdict = (
        f"Taken together, the forecasts of {escape(' and '.join(passed))} would have opened the gates."
        if passed
        else "Taken together, the forecasts of no model would have opened the gates."
    )
    lead = f"{names}: trained anew {every}, each version tested on the time right after, which it had not seen. {verdict}"
    span = f"{first:%-d %B %Y} to {last:%-d %B %Y}, {len(record.pairs)} pairs, {escape(record.settings.desk.timeframe)} bars"
    return (
        f'<header><h1>Walk-forward: {escape(record.settings.desk.name)}</h1><p class="soft">{span}</p><p class="lead">{lead}</p></header>'
    )


def _strategy(record: WalkRecord, days: _Days) -> str:
    if record.desk is None or record.runs is None:
        return ""
    axis = charts.value_axis(np.concatenate([line.values for line in days.lines]).tolist())
    texts = [f"{mark:,.10g}".replace("-", "−") for mark in axis.marks]
    plot = charts.line_plot("strategy", days.lines[::-1], axis, days.times, days.at_ms, texts)
    legend = "".join(f'<li><i class="{line.style}"></i>{line.name}</li>' for line in days.lines)
    execution = record.settings.execution
    how = (
        "Each fold's time with the versions trained before it, whatever their gates would have said. "
        f"Taker fee {execution.taker_fee_bps:g} bps and slippage {execution.slippage_bps:g} bps a side are paid by all but cash; "
        "equal weight pays them once to buy and once to sell."
    )
    if record.not_asked:
        how += f" <b>{escape(record.not_asked)}</b>"
    columns = (
        ("", "t"), ("Return", ""), ("Sharpe", ""), ("Deepest drawdown", ""), ("Exposure", ""), ("Turnover", ""), ("Trades", ""),
        ("Fees", ""),
    )  # fmt: skip
    rows = [_desk_row(name, record.desk[key]) for name, key in _RUNS]
    return (
        f'<section class="card"><h2>The strategy</h2><p class="soft">{how}</p><ul class="legend">{legend}</ul>{plot}'
        f"{table('strategy', columns, rows)}</section>"
    )


_RUNS = (
    ("Desk with models", "with_models"),
    ("Desk without models", "without_models"),
    ("Equal weight", "equal_weight"),
    ("Cash", "cash"),
)


def _desk_row(name: str, values: Mapping[str, Any]) -> Sequence[Cell]:
    def cell(key: str, form: Any) -> Cell:
        value = values.get(key)
        return (float(value), form(value)) if value is not None else "–"

    return [
        name,
        cell("total_return_frac", lambda value: share(value, plus=True) if value else share(value)),
        cell("sharpe", signed),
        cell("max_drawdown_frac", share),
        cell("avg_exposure_frac", share),
        cell("turnover_frac", lambda value: f"{float(value):,.1f}"),
        cell("trades", lambda value: f"{value:,}"),
        cell("fees_paid", lambda value: f"{float(value):,.2f}"),
    ]


def _footer(record: WalkRecord) -> str:
    sections = json.dumps({name: json.loads(text) for name, text in record.settings.sections().items()}, indent=1)
    facts = "".join(
        f"<dt>{name}</dt><dd><code>{escape(value)}</code></dd>"
        for name, value in (("Bars, sha256", record.data_sha256), ("Settings, sha256", record.settings.sha256()))
    )
    return (
        f'<section class="card"><h2>What made it</h2><dl class="facts">{facts}</dl></section>'
        f'<section class="card"><details><summary>Settings</summary><pre>{escape(sections)}</pre></details></section>'
        '<p class="soft">What worked on past weeks may not work on the next. How it was measured: docs/walk-forward.md.</p>'
    )
