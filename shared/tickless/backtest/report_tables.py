"""The tables of the report: every one sorts on a click, a long one shows its first rows until asked for more.

The trades, which may be tens of thousands, are rows of text in the page's data: the page makes elements of those that are looked at only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from html import escape
from typing import Any

import numpy as np

from tickless import metrics
from tickless.backtest.results import RunRecord
from tickless.backtest.tables import plain
from tickless.types import ZERO, Side, Trade, parse_time, to_ms

FIRST_ROWS = 25
MOST_TRADES = 40_000
"""More would make the page larger than six megabytes."""
NONE = "–"
_LIMITS = {
    r"drawdown_scale (.+)": (
        "Drawdown",
        "targets were scaled to {} of what they were, because equity was below its peak (risk.drawdown_steps)",
    ),
    r"tier(\d)_cap": ("Largest position, tier {}", "a position was cut to what one pair of its tier may be (portfolio.tier{}_cap_frac)"),
    r"tier(\d)_sleeve": ("All of tier {}", "a position was cut, because its tier may be so much in all (portfolio.tier{}_sleeve_frac)"),
    r"top_k": ("Places", "the strategy wanted more pairs than there are places; the best got them (portfolio.top_k)"),
    r"blocked": ("Pause after a stop", "a pair that had been stopped out was not bought again yet (risk.block_after_stop)"),
    r"cash": ("Cash", "less was bought than was wanted, because the cash did not reach"),
    r"halted": ("Halt", "the desk was halted, and nothing was bought"),
}
"""Limits by their name in the trace: what people call them, and what they did."""
_AVERAGE = "Average is the mean of each trade’s own return, small trades and large ones alike, so its sign may differ from the profit’s."
Cell = str | tuple[float, str]
"""Text, or a number that sorts and the text that shows."""


def money(value: Any) -> str:
    """An amount with two decimals and thousands apart; a dash for None."""
    return NONE if value is None else _minus(f"{float(value):z,.2f}")


def signed(value: Any) -> str:
    """A ratio with two decimals; a dash for None."""
    return NONE if value is None else _minus(f"{float(value):z,.2f}")


def share(value: Any, plus: bool = False) -> str:
    """A share in per cent, a dash for None; what rounds to nothing has no sign."""
    if value is None:
        return NONE
    percent = float(value) * 100
    digits = 2 if abs(percent) < 1000 else 0
    sign = "+" if plus and round(percent, digits) else ""
    return _minus(f"{percent:{sign}z,.{digits}f} %")


def table(name: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Cell]], shown: int = 0) -> str:
    """A sortable table: columns are (heading, style class), ``t`` for text; with ``shown``, rows beyond so many wait for a click."""
    heads = "".join(f'<th scope="col"{_class(style)}><button type="button">{escape(text)}</button></th>' for text, style in columns)
    lines = []
    for n, row in enumerate(rows):
        cells = "".join(_cell(cell, style) for cell, (_, style) in zip(row, columns, strict=True))
        lines.append(f"<tr hidden>{cells}</tr>" if shown and n >= shown else f"<tr>{cells}</tr>")
    limit = f' data-shown="{shown}"' if shown else ""
    more = '<button type="button" class="more">Show more</button>' if shown and len(rows) > shown else ""
    return (
        '<p class="hint" hidden>Scroll sideways for more columns</p>'
        f'<div class="scroll"><table class="sortable" id="{escape(name)}"{limit}><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{more}"
    )


def trade_groups(record: RunRecord) -> str:
    """How trades paid by exit reason, entry, strategy and pair, each pair beside what holding it would have returned."""
    if not record.trades:
        return '<section class="card"><h2>Trades</h2><p class="soft">The run closed no trade.</p></section>'
    kinds: tuple[tuple[str, str, str, Callable[[Trade], str]], ...] = (
        ("By exit reason", "exits", "Exit reason", lambda trade: trade.exit_reason),
        ("By entry", "entries", "Entry", lambda trade: trade.enter_tag),
        ("By strategy", "strategies", "Strategy", lambda trade: trade.strategy),
    )
    cards = [(title, _group(record.trades, name, head, key)) for title, name, head, key in kinds]
    cards.append(("By pair", _group(record.trades, "pairs", "Pair", lambda trade: trade.pair, _held_returns(record))))
    return "".join(f'<section class="card"><h2>{title}</h2><p class="soft">{_AVERAGE}</p>{content}</section>' for title, content in cards)


class TradeTable:
    """The closed trades as columns of text: the latest ``MOST_TRADES`` of them."""

    def __init__(self, record: RunRecord) -> None:
        trades = record.trades[-MOST_TRADES:]
        self.count = len(record.trades)
        columns: list[tuple[str, str, list[str]]] = [
            ("Pair", "t", [trade.pair for trade in trades]),
            ("Opened", "t", [str(trade.opened_at)[:16] for trade in trades]),
            ("Held", "", [_held(trade.closed_at - trade.opened_at)[1] for trade in trades]),
            ("Profit", "", [_profit(trade.pnl)[1] for trade in trades]),
            ("Profit %", "", [share(trade.pnl_frac, plus=True) for trade in trades]),
            ("Open", "", [_price(trade.open_price)[1] for trade in trades]),
            ("Close", "", [_price(trade.close_price)[1] for trade in trades]),
            ("Quantity", "", [_price(trade.qty)[1] for trade in trades]),
            ("Fees", "", [money(trade.fees) for trade in trades]),
            ("Exit", "t", [trade.exit_reason for trade in trades]),
            ("Entry", "t", [trade.enter_tag for trade in trades]),
            ("Strategy", "t", [trade.strategy for trade in trades]),
            ("Closed", "t", [str(trade.closed_at)[:16] for trade in trades]),
        ]
        # A column that says the same of every trade only pushes the others off the screen; By strategy names it.
        one = len(set(columns[-2][2])) == 1
        self.columns = [column for column in columns if not (one and column[0] == "Strategy")]

    def html(self) -> str:
        """The card with the first rows; the page's script goes on from ``data``."""
        if not self.count:
            return ""
        texts = [texts for _, _, texts in self.columns]
        rows = [
            [(0.0, text) if not style else text for text, (_, style, _) in zip(row, self.columns, strict=True)] for row in self._rows(texts)
        ]
        title = f"All {self.count:,} trades" if self.count <= MOST_TRADES else f"The last {MOST_TRADES:,} of {self.count:,} trades"
        search = '<input type="search" class="filter" placeholder="Filter: a pair, a day, an exit" aria-label="Filter the trades">'
        more = '<button type="button" class="more">Show more</button>' if self.count > FIRST_ROWS else ""
        content = table("trades", [column[:2] for column in self.columns], rows)
        counted = f'<p class="soft count">{min(FIRST_ROWS, self.count):,} of {self.count:,} shown</p>'
        return f'<section class="card"><h2>{title}</h2>{search}{content}{counted}{more}</section>'

    def data(self) -> list[Any]:
        """Every column: its texts, or for words that come again and again the words and each row's number in them."""
        return [_packed(texts) if style else texts for _, style, texts in self.columns] if self.count else []

    @staticmethod
    def _rows(texts: list[list[str]]) -> list[tuple[str, ...]]:
        return list(zip(*(column[:FIRST_ROWS] for column in texts), strict=True))


def _packed(texts: list[str]) -> dict[str, list[Any]]:
    words = {text: n for n, text in enumerate(dict.fromkeys(texts))}
    return {"words": list(words), "at": [words[text] for text in texts]}


def _held_returns(record: RunRecord) -> dict[str, float]:
    """What each pair itself returned from its first close in the timerange to its last, a break of its price scale left out."""
    window, close = record.market_window, record.market_close
    returns = {}
    for n, pair in enumerate(window.pairs):
        known = close[~np.isnan(close[:, n]), n]
        if len(known):
            returns[pair] = float(known[-1] / known[0]) - 1.0
    return returns


def open_positions(record: RunRecord) -> str:
    """What the fills leave open, valued at the last closes."""
    held: dict[str, Decimal] = {}
    for fill in record.fills:
        taken = fill.fee_qty if fill.fee_asset == fill.pair.partition("/")[0] else ZERO
        held[fill.pair] = held.get(fill.pair, ZERO) + (fill.qty if fill.side is Side.BUY else -fill.qty) - taken
    window = record.market_window
    rows: list[list[Cell]] = []
    for pair in sorted(pair for pair, qty in held.items() if qty > 0):
        column = window.close[:, window.column[pair]] if pair in window.column else np.empty(0)
        known = column[~np.isnan(column)]
        close = float(known[-1]) if len(known) else math.nan
        value: Cell = (float(held[pair]) * close, money(float(held[pair]) * close)) if len(known) else NONE
        rows.append([pair, _price(held[pair]), _price(close) if len(known) else NONE, value])
    if not rows:
        return ""
    columns = (("Pair", "t"), ("Quantity", ""), ("Last close", ""), ("Value", ""))
    return f'<section class="card"><h2>Open at the end</h2>{table("open", columns, rows, FIRST_ROWS)}</section>'


def models(record: RunRecord) -> str:
    """Which model versions decided, and when."""
    spans: dict[tuple[str, str], list[Any]] = {}
    for line in record.ticks:
        for name, version in model_versions(line.get("models")).items() if line.get("models") else ():
            span = spans.setdefault((name, version), [line["at"], line["at"], 0])
            span[1:] = [line["at"], span[2] + 1]
    if not spans:
        return ""
    columns = (("Model", "t"), ("Version", "t"), ("First tick", "t"), ("Last tick", "t"), ("Ticks", ""))
    rows: list[list[Cell]] = [
        [name, version, f"{parse_time(first):%Y-%m-%d %H:%M}", f"{parse_time(last):%Y-%m-%d %H:%M}", (n, f"{n:,}")]
        for (name, version), (first, last, n) in spans.items()
    ]
    return f'<section class="card"><h2>Model versions</h2>{table("models", columns, rows, 10)}</section>'


def limits(record: RunRecord) -> str:
    """What each limit did, at how many ticks, and to how many pairs."""
    ticks: dict[str, int] = {}
    pairs: dict[str, set[str]] = {}
    for line in record.ticks:
        bound = [_limit(str(text)) for text in line.get("limits") or ()]
        for name in dict.fromkeys(name for name, _ in bound):
            ticks[name] = ticks.get(name, 0) + 1
        for name, pair in bound:
            pairs.setdefault(name, set()).update([pair] if pair else [])
    if not ticks:
        return '<p class="soft">None: every target was traded as the strategies wanted it.</p>'
    names = sorted(ticks, key=lambda name: (-ticks[name], name))[:30]
    rows: list[list[Cell]] = [[*_in_words(name), (ticks[name], f"{ticks[name]:,}"), _count(len(pairs[name]))] for name in names]
    return table("limits", (("Limit", "t"), ("What it did", "t w"), ("Ticks", ""), ("Pairs", "")), rows)


def _in_words(name: str) -> tuple[str, str]:
    """What people call a limit, and what it did; its own name where nobody has said."""
    for pattern, (title, text) in _LIMITS.items():
        found = re.fullmatch(pattern, name)
        if found:
            values = [share(float(value)) if "." in value else value for value in found.groups()]
            return title.format(*values), text.format(*values)
    return name, NONE


def _limit(text: str) -> tuple[str, str]:
    """A limit's name, without what is one tick's alone, and the pair it bound, if it names one."""
    name, _, subject = text.partition(":")
    found = re.search(r"[^\s:/]+/[^\s:/]+(:[^\s:/]+)?", subject)
    factor = re.fullmatch(r"\d*\.?\d+", subject.strip())
    return (f"{name} {subject}" if factor else name).strip(), found[0] if found else ""


def _count(n: int) -> Cell:
    return (n, f"{n:,}") if n else NONE


def model_versions(value: Any) -> dict[str, str]:
    """The models of a tick line, version by name: from a map, or from labels such as ``name@version``."""
    if isinstance(value, Mapping):
        return {str(name): "none" if version is None else str(version).removeprefix(f"{name}@") for name, version in value.items()}
    labels = [str(label).partition("@") for label in value or ()]
    return {name: version or "?" for name, _, version in labels}


def model_changes(record: RunRecord) -> list[tuple[int, str]]:
    """When another version took over: (milliseconds, text)."""
    current: dict[str, str] = {}
    changes = []
    for line in record.ticks:
        for name, version in model_versions(line.get("models")).items() if line.get("models") else ():
            if name in current and current[name] != version:
                changes.append((to_ms(parse_time(line["at"])), f"{name}: {version}"))
            current[name] = version
    return changes


def _group(trades: Sequence[Trade], name: str, head: str, key: Callable[[Trade], str], held: Mapping[str, float] | None = None) -> str:
    groups: dict[str, list[Trade]] = {}
    for trade in trades:
        groups.setdefault(key(trade), []).append(trade)
    columns = [
        (head, "t"), ("Trades", ""), ("Winners", ""), ("Profit", ""), ("Average", ""), ("Worst", ""), ("Best", ""), ("Profit factor", ""),
        ("Fees", ""), ("Held, median", ""),
    ]  # fmt: skip
    rows = [_group_row(label, groups[label]) for label in sorted(groups, key=lambda label: (sum(t.pnl for t in groups[label]), label))]
    if held is not None:
        columns.append(("Buy and hold", ""))
        for row in rows:
            value = held.get(str(row[0]))
            row.append(NONE if value is None else (value, share(value, plus=True)))
    return table(name, columns, rows, FIRST_ROWS)


def _group_row(label: str, members: Sequence[Trade]) -> list[Cell]:
    pnl = [float(trade.pnl) for trade in members]
    fracs = [float(trade.pnl_frac) for trade in members]
    won, factor = metrics.win_rate_frac(pnl) or 0.0, metrics.profit_factor(pnl)
    shares = (math.fsum(fracs) / len(fracs), min(fracs), max(fracs))
    return [
        label or NONE,
        (len(members), f"{len(members):,}"),
        (won, f"{won * 100:.0f} %"),
        _profit(sum((trade.pnl for trade in members), ZERO)),
        *((value, share(value, plus=True)) for value in shares),
        (math.inf if factor is None else factor, signed(factor)),
        _amount(sum((trade.fees for trade in members), ZERO)),
        _held(sorted(trade.closed_at - trade.opened_at for trade in members)[len(members) // 2]),
    ]


def _class(style: str) -> str:
    return f' class="{style}"' if style else ""


def _cell(cell: Cell, style: str) -> str:
    if isinstance(cell, str):
        return f"<td{_class(style)}>{escape(cell)}</td>"
    value, text = cell
    tone = "neg" if text.startswith("−") else "pos" if text.startswith("+") else ""
    # What the page's script can read off the text is not said twice.
    plainly = re.fullmatch(r"[-+−]?[\d,]+(\.\d+)?( (%|min|h|d))?", text)
    number = "" if plainly else f' data-v="{"Infinity" if math.isinf(value) else format(value, ".10g")}"'
    return f"<td{number}{_class(tone)}>{escape(text)}</td>"


def _amount(value: Decimal) -> tuple[float, str]:
    return float(value), money(value)


def _profit(value: Decimal) -> tuple[float, str]:
    return float(value), _minus(f"{float(value):+,.2f}")


def _price(value: Decimal | float) -> tuple[float, str]:
    """Six significant digits, never an exponent."""
    number = float(value)
    digits = max(0, 5 - math.floor(math.log10(abs(number)))) if number else 0
    return number, plain(Decimal(f"{number:.{min(digits, 12)}f}"))


def _held(span: timedelta) -> tuple[float, str]:
    minutes = span / timedelta(minutes=1)
    if minutes < 60:
        return minutes, f"{minutes:.0f} min"
    return minutes, f"{minutes / 60:.1f} h" if minutes < 72 * 60 else f"{minutes / 1440:.1f} d"


def _minus(text: str) -> str:
    return text.replace("-", "−")
