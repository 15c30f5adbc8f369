"""The report: one page that opens offline, in any browser, on any screen. The same run gives the same bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless import metrics
from tickless.backtest import charts, report_tables
from tickless.backtest.report_tables import Cell, money, share, signed, table
from tickless.backtest.results import RunRecord, count_ticks, write_files
from tickless.settings import cautions
from tickless.types import to_ms

Floats = NDArray[np.float64]
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""The page may load nothing at all."""


def write_report(record: RunRecord, summary: Mapping[str, Any], out: Path) -> Path:
    """Write ``report.html`` into the folder ``out`` and return its path; ``summary`` is what ``write_results`` returned."""
    write_files(out, [("report.html", (render(record, summary),))])
    return out / "report.html"


def render(record: RunRecord, summary: Mapping[str, Any]) -> str:
    """The whole page as text. It names no time but those of the run."""
    view = _View(record)
    title = f"{record.settings.desk.name}, {summary['timerange']}"
    page = resources.files("tickless.backtest").joinpath("page")
    style, script = (page.joinpath(name).read_text("utf8") for name in ("report.css", "report.js"))
    body = "".join(
        (
            _head(record, summary),
            _figures(record, summary),
            _charts(view),
            _months(view),
            _distribution(record),
            report_tables.trade_groups(record),
            view.trades.html(),
            report_tables.open_positions(record),
            report_tables.models(record),
            _ticks(record),
            _footer(record, summary),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n<body><main>{body}</main>"
        f'<script type="application/json" id="data">{_page_data(view)}</script><script>{script}</script></body></html>\n'
    )


@dataclass(frozen=True)
class _View:
    """The run as the plots need it: all rows, and those that are drawn."""

    record: RunRecord

    @cached_property
    def times(self) -> charts.TimeAxis:
        return charts.TimeAxis(to_ms(self.record.start), to_ms(self.record.end))

    @cached_property
    def at_ms(self) -> NDArray[np.int64]:
        return np.asarray([to_ms(row.at) for row in self.record.equity], dtype=np.int64)

    @cached_property
    def equity(self) -> Floats:
        return np.asarray([float(row.equity) for row in self.record.equity], dtype=np.float64)

    @cached_property
    def drawn(self) -> NDArray[np.intp]:
        return charts.sample(self.equity)

    def column(self, name: str) -> Floats:
        return np.asarray([getattr(row, name) for row in self.record.equity], dtype=np.float64)[self.drawn]

    @cached_property
    def trades(self) -> report_tables.TradeTable:
        return report_tables.TradeTable(self.record)

    @cached_property
    def model_changes(self) -> list[tuple[int, str]]:
        return report_tables.model_changes(self.record)

    @cached_property
    def regimes(self) -> list[str]:
        return [row.regime for row in self.record.equity]

    @cached_property
    def regime_changes(self) -> bool:
        return len(set(self.regimes)) > 1

    def benchmark(self, close: Floats) -> Floats:
        """The start equity held in the market, at every row."""
        window = self.record.market_window
        curve = np.concatenate(([1.0], metrics.market_curve(close)))
        closed = (self.at_ms - window.start_ms) // window.step_ms
        return curve[np.clip(closed, 0, len(curve) - 1)] * float(self.record.start_equity)

    def at_exposure(self, market: Floats) -> Floats:
        """The market held as far as the desk was invested: its move to each row times the row's exposure, compounded; at every row.

        A row is taken before its tick's own orders, so that its exposure is that of the time since the row before.
        """
        held = np.asarray([row.exposure_frac for row in self.record.equity], dtype=np.float64)
        start = float(self.record.start_equity)
        moves = market / np.concatenate(([start], market[:-1])) - 1.0
        return np.asarray(start * np.cumprod(1.0 + held * moves), dtype=np.float64)

    @cached_property
    def lines(self) -> list[charts.Series]:
        """The desk, the market in equal parts, the market as far as the desk was invested, and Bitcoin where the run has it."""
        window, market = self.record.market_window, self.benchmark(self.record.market_close)
        lines = [charts.Series("Desk", "desk", self.equity[self.drawn])]
        lines.append(charts.Series("Market, equal weight", "market", market[self.drawn]))
        lines.append(charts.Series("Market at the desk’s exposure", "scaled", self.at_exposure(market)[self.drawn]))
        btc = next((n for n, pair in enumerate(window.pairs) if pair.startswith("BTC/")), None)
        if btc is not None and len(window.pairs) > 1:
            lines.append(charts.Series("Bitcoin", "btc", self.benchmark(self.record.market_close[:, btc : btc + 1])[self.drawn]))
        return lines


def _head(record: RunRecord, summary: Mapping[str, Any]) -> str:
    coin = escape(str(summary["stake_currency"]))
    execution = record.settings.execution
    days = (record.end - record.start).total_seconds() / 86_400
    total, market = float(summary["total_return_frac"]), float(summary["market_return_frac"])
    verdict = (
        f"{money(summary['start_equity'])} {coin} became <b>{money(summary['end_equity'])} {coin}</b> in {days:g} days: "
        f"<b>{_coloured(total)}</b>, while holding the market in equal parts returned {_coloured(market)}."
    )
    part = execution.max_participation_frac
    how = f"Simulated fills: taker fee {execution.taker_fee_bps:g} bps, slippage {execution.slippage_bps:g} bps a side, " + (
        f"at most {part * 100:g} % of a bar's volume." if part else "whatever a bar's volume."
    )
    sentences = [*([record.note] if record.note else []), *(f"Mind {caution}." for caution in cautions(record.settings))]
    note = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    span = f"{record.start:%-d %B %Y %H:%M} to {record.end:%-d %B %Y %H:%M} UTC"
    return (
        f'<header><h1>Desk {escape(record.settings.desk.name)}</h1><p class="soft">{span}, {len(record.pairs)} pairs, '
        f'{escape(record.settings.desk.timeframe)} bars</p><p class="lead">{verdict}</p>{note}<p class="soft">{how}</p></header>'
    )


def _figures(record: RunRecord, summary: Mapping[str, Any]) -> str:
    days = (record.end - record.start).total_seconds() / 86_400
    few = f"; {days:g} days say little" if days < 30 else ""
    fees, coin = float(summary["fees_paid"]), escape(str(summary["stake_currency"]))
    per_start = fees / float(summary["start_equity"]) if summary["start_equity"] else 0.0
    figures = (
        ("Return", _coloured(summary["total_return_frac"]), f"market {_coloured(summary['market_return_frac'])}"),
        ("Growth a year", _coloured(summary["cagr_frac"]), f"compound, 365 days{few}"),
        ("Deepest drawdown", share(summary["max_drawdown_frac"]), "from the highest equity before"),
        ("Volatility a year", share(summary["volatility_ann_frac"]), "of daily returns"),
        ("Sharpe", signed(summary["sharpe"]), f"daily, 365 days{few}"),
        ("Sortino", signed(summary["sortino"]), f"losing days are the risk{few}"),
        ("Calmar", signed(summary["calmar"]), f"growth a year over drawdown{few}"),
        ("Trades", f"{summary['trades']:,}", f"{summary['orders']:,} orders, {summary['fills']:,} fills"),
        ("Winners", share(summary["win_rate_frac"]), "of closed trades, net of fees"),
        ("Profit factor", signed(summary["profit_factor"]), "won over lost"),
        ("Profit a trade", money(summary["expectancy"]), f"{coin}, on average"),
        ("Exposure", share(summary["avg_exposure_frac"]), "on average"),
        ("Turnover", f"{float(summary['turnover_frac']):,.1f} ×", "traded value over mean equity"),
        ("Fees", money(fees), f"{coin}, {share(per_start)} of the start equity"),
    )
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{text}</small></dd></div>" for name, value, text in figures)
    return f'<dl class="card figures">{cells}</dl>'


def _charts(view: _View) -> str:
    if not len(view.equity):
        return '<section class="card"><h2>Equity</h2><p class="soft">The run has no equity rows.</p></section>'
    at = view.at_ms[view.drawn]
    axis = charts.value_axis(np.concatenate([line.values for line in view.lines]).tolist())
    equity = charts.line_plot("equity", view.lines[::-1], axis, view.times, at, [f"{mark:,.10g}".replace("-", "−") for mark in axis.marks])
    fall = view.column("drawdown_frac")
    axis = charts.value_axis(fall.tolist(), most=3, include=0.0)
    lines = [charts.Series("Drawdown", "dd", fall, filled=True)]
    drawdown = charts.line_plot("drawdown", lines, axis, view.times, at, [_percent(mark) for mark in axis.marks])
    held = view.column("exposure_frac")
    axis = charts.value_axis([*held.tolist(), 1.0], most=4, include=0.0)
    # A desk that knows no regime says the same one at every tick: a band over everything would say nothing.
    known = [name for name in ("trend", "chop", "down") if name in set(view.regimes)] if view.regime_changes else []
    changes = view.model_changes
    back = (charts.bands(view.times, view.at_ms, view.regimes) if view.regime_changes else "") + charts.moments(view.times, changes)
    lines = [charts.Series("Exposure", "desk", held, filled=True)]
    exposure = charts.line_plot("exposure", lines, axis, view.times, at, [_percent(mark) for mark in axis.marks], back)
    names = "".join(f'<li><i class="{line.style}"></i>{line.name}</li>' for line in view.lines)
    regimes = "".join(f'<li><i class="box r-{name}"></i>regime {name}</li>' for name in known)
    marks = '<li><i class="mark"></i>another model version</li>' if changes else ""
    return (
        f'<section class="card"><h2>Equity</h2><ul class="legend">{names}</ul>{equity}</section>'
        f'<section class="card low"><h2>Drawdown</h2>{drawdown}</section>'
        f'<section class="card low"><h2>{"Exposure and regime" if view.regime_changes else "Exposure"}</h2><ul class="legend">'
        f'<li><i class="desk"></i>share of equity in positions</li>{regimes}{marks}</ul>{exposure}</section>'
    )


def _months(view: _View) -> str:
    if not len(view.equity):
        return ""
    # The last month ends with the run, after its last fill, so that the months compound to the run's return.
    equity = np.append(view.equity[:-1], float(view.record.end_equity))
    returns = metrics.monthly_returns(view.at_ms, equity, float(view.record.start_equity))
    strongest = max(1e-9, *(abs(value) for value in returns.values()))
    years = []
    for year in sorted({month[:4] for month in returns}):
        total = math.prod(1.0 + value for month, value in returns.items() if month.startswith(year)) - 1.0
        cells = []
        for n, name in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1):
            value = returns.get(f"{year}-{n:02d}")
            if value is None:
                continue
            tint = f'class="{"up" if value >= 0 else "fall"}" style="--w:{8 + 42 * abs(value) / strongest:.0f}%"'
            cells.append(f"<div {tint}><span>{name}</span>{share(value, plus=True)}</div>")
        heading = f"<p><b>{year}</b> {_coloured(total)}</p>"
        years.append(f'<div class="year">{heading}<div class="months">{"".join(cells)}</div></div>')
    return f'<section class="card"><h2>Monthly returns</h2>{"".join(years)}</section>'


def _distribution(record: RunRecord) -> str:
    values = np.asarray([float(trade.pnl_frac) for trade in record.trades], dtype=np.float64)
    if not len(values):
        return ""
    low, high = np.quantile(values, (0.005, 0.995)).tolist()
    reach = max(abs(low), abs(high), 0.001)
    raw = 2 * reach / 32
    power = 10.0 ** math.floor(math.log10(raw))
    width = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    # The bin edges include zero, and what lies beyond the outermost bins is counted in them.
    first, last = min(-4, math.floor(low / width)), max(4, math.ceil(high / width))
    edges = [n * width for n in range(first, last + 1)]
    bins = np.clip(np.floor(values / width + 1e-9).astype(int) - first, 0, len(edges) - 2)
    counts = np.bincount(bins, minlength=len(edges) - 1).tolist()
    every = max(1, math.ceil((last - first) / 8))
    marks = [((n - first) / (last - first), _percent(n * width)) for n in range(first, last + 1) if n % every == 0]
    plot = charts.bar_plot("distribution", edges, counts, marks)
    text = "Net profit of each closed trade as a share of what was paid; the outermost bars hold everything beyond."
    return f'<section class="card low"><h2>How trades ended</h2><p class="soft">{text}</p>{plot}</section>'


def _ticks(record: RunRecord) -> str:
    ticks: list[list[Cell]] = [[text, (n, f"{n:,}")] for text, n in count_ticks(record.ticks).items()]
    return (
        f'<div class="two"><section class="card"><h2>Ticks</h2>{table("ticks", (("Function", "t w"), ("Ticks", "")), ticks)}</section>'
        f'<section class="card"><h2>Limits that changed something</h2>{report_tables.limits(record)}</section></div>'
    )


def _footer(record: RunRecord, summary: Mapping[str, Any]) -> str:
    sections = json.dumps({name: json.loads(text) for name, text in record.settings.sections().items()}, indent=1)
    hashes = (("Bars, sha256", "data_sha256"), ("Settings, sha256", "settings_sha256"), ("Orders, sha256", "orders_sha256"))
    facts = "".join(f"<dt>{name}</dt><dd><code>{escape(str(summary[key]))}</code></dd>" for name, key in hashes)
    facts = f"{_models_used(summary)}{facts}"
    return (
        f'<section class="card"><h2>What made it</h2><dl class="facts">{facts}</dl></section>'
        f'<section class="card"><details><summary>Settings</summary><pre>{escape(sections)}</pre></details></section>'
        '<p class="soft">Past or simulated results say little about future ones. The formulas are in docs/results.md, Key figures.</p>'
    )


def _models_used(summary: Mapping[str, Any]) -> str:
    """Which models decided, and how often none could; nothing for a desk that is not rebalanced."""
    used = [f"{escape(label)} at {count:,} rebalances" for label, count in summary["models"].items()]
    if summary["fallback_rebalances"]:
        used.append(f"none at {summary['fallback_rebalances']:,} rebalances: the strategy's own score decided")
    used += [
        f"{escape(refused['model'])}, {refused['stage']}, refused at {refused['rebalances']:,} rebalances: {escape(refused['reason'])}"
        for refused in summary["models_refused"]
    ]
    return f"<dt>Models</dt><dd>{'<br>'.join(used)}</dd>" if used else ""


def _page_data(view: _View) -> str:
    """What the pointer reads out, as JSON that cannot end the script element it stands in."""

    def series(lines: Iterable[charts.Series], form: str, digits: int) -> list[dict[str, Any]]:
        return [{"name": line.name, "format": form, "values": [round(v, digits) for v in line.values.tolist()]} for line in lines]

    regimes = [view.regimes[row] for row in view.drawn]
    held = series([charts.Series("Exposure", "", view.column("exposure_frac"))], "share", 5)
    plots = {
        "equity": series(view.lines, "money", 2),
        "drawdown": series([charts.Series("Drawdown", "", view.column("drawdown_frac"))], "share", 5),
        "exposure": [*held, {"name": "Regime", "format": "text", "values": regimes}],
    }
    data = {
        "start": view.times.start_ms,
        "end": view.times.end_ms,
        "at": view.at_ms[view.drawn].tolist(),
        "plots": plots,
        "tables": {"trades": view.trades.data()},
    }
    return json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False).replace("<", "\\u003c")


def _coloured(value: Any) -> str:
    if not value:
        return share(value)
    return f'<span class="{"pos" if value > 0 else "neg"}">{share(value, plus=True)}</span>'


def _percent(value: float) -> str:
    return f"{value * 100:,.6g} %".replace("-", "−")
