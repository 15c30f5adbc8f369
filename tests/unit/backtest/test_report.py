from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from made_run import made_run

from tickless.backtest import charts
from tickless.backtest.report import render, write_report
from tickless.backtest.results import RunRecord, summarize, write_results

LIMIT_BYTES = 6_000_000


def report(run: RunRecord, out: Path) -> str:
    return write_report(run, write_results(run, out), out).read_text("utf8")


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    assert report(made_run(), tmp_path / "a") == report(made_run(), tmp_path / "b")


def test_the_page_asks_nobody_for_anything(page: Path) -> None:
    text = page.read_text("utf8")
    assert not re.search(r"https?:|//[a-z]|<link|<img|src=|@import|url\(", text)
    assert "default-src 'none'" in text


def test_the_page_is_small(page: Path) -> None:
    assert page.stat().st_size < LIMIT_BYTES / 10


def test_a_long_busy_run_stays_small(run: RunRecord, tmp_path: Path) -> None:
    """Eight months of rows and ten thousand trades."""
    rows = [replace(run.equity[n % 288], at=run.start + timedelta(minutes=15 * n)) for n in range(23_900)]
    trades = [run.trades[n % len(run.trades)] for n in range(10_000)]
    long = replace(run, equity=rows, trades=trades, end=run.start + timedelta(minutes=15 * 23_900))
    assert len(report(long, tmp_path).encode()) < LIMIT_BYTES


def test_more_trades_than_a_page_can_hold_are_the_latest(run: RunRecord, tmp_path: Path) -> None:
    trades = [replace(run.trades[n % len(run.trades)], closed_at=run.start + timedelta(minutes=n)) for n in range(45_000)]
    text = report(replace(run, trades=trades), tmp_path)
    assert "The last 40,000 of 45,000 trades" in text
    assert str(trades[-1].closed_at)[:16] in text
    assert len(text.encode()) < LIMIT_BYTES


def test_drawdown_hangs_from_the_top(run: RunRecord, tmp_path: Path) -> None:
    """The rows count it from the peak down: zero or negative."""
    text = report(run, tmp_path)
    (plot,) = re.findall(r'data-plot="drawdown">(.*?)</div>', text, re.DOTALL)
    marks = re.findall(r'<span class="y" style="top:([\d.]+)%">([^<]+)</span>', plot)
    assert ("0.00", "0 %") in marks
    assert all(text.startswith("−") for top, text in marks if top != "0.00")


def test_a_desk_without_regimes_has_no_bands(run: RunRecord, tmp_path: Path) -> None:
    text = report(replace(run, equity=[replace(row, regime="chop") for row in run.equity]), tmp_path)
    assert ">Exposure<" in text
    assert 'class="band' not in text
    assert "regime chop" not in text


def test_limits_say_what_they_did_and_to_how_many_pairs(run: RunRecord, tmp_path: Path) -> None:
    bound = [
        ["tier1_cap:BTC/USDT", "tier1_cap:ETH/USDT", "drawdown_scale:0.5"],
        ["tier1_cap:BTC/USDT", "halted"],
        ["drawdown_scale:0.2"],
        [],
    ]
    ticks = [{**line, "limits": bound[n % 4]} for n, line in enumerate(run.ticks[:40])]
    text = report(replace(run, ticks=ticks), tmp_path).partition('id="limits"')[2].partition("</table>")[0]
    rows = [re.sub(r"<[^>]+>", "|", row).strip("|").split("||") for row in re.findall(r"<tr><td.*?</tr>", text)]
    assert [(row[0], *row[2:]) for row in rows] == [
        ("Largest position, tier 1", "20", "2"),
        ("Drawdown", "10", "–"),
        ("Drawdown", "10", "–"),
        ("Halt", "10", "–"),
    ]
    assert rows[0][1] == "a position was cut to what one pair of its tier may be (portfolio.tier1_cap_frac)"
    assert "scaled to 20.00 % of what they were" in rows[1][1]
    assert "scaled to 50.00 % of what they were" in rows[2][1]


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("tier3_sleeve:PEPE/USDT", "All of tier 3"),
        ("top_k", "Places"),
        ("blocked:BTC/USDT", "Pause after a stop"),
        ("cash:BTC/USDT", "Cash"),
        ("drawdown_scale:0", "Drawdown"),
        ("of_another_kind:BTC/USDT", "of_another_kind"),
    ],
)
def test_every_limit_has_a_name_in_plain_words(run: RunRecord, tmp_path: Path, limit: str, words: str) -> None:
    text = report(replace(run, ticks=[{**run.ticks[0], "limits": [limit]}]), tmp_path)
    assert f'<td class="t">{words}</td>' in text.partition('id="limits"')[2].partition("</table>")[0]


def test_the_tiles_name_signs_and_currency_as_the_headline_does(run: RunRecord, tmp_path: Path) -> None:
    summary = {
        **write_results(run, tmp_path),
        "market_return_frac": 0.2148,
        "fees_paid": Decimal("1234.5"),
        "start_equity": Decimal(50_000),
    }
    text = re.sub(r"</?(span|b)[^>]*>", "", render(run, summary))
    assert "in equal parts returned +21.48 %" in text
    assert "<small>market +21.48 %</small>" in text
    assert "<dt>Fees</dt><dd>1,234.50<small>USDT, 2.47 % of the start equity</small>" in text
    assert "docs/results.md" in text


def test_axes_set_thousands_apart(run: RunRecord, tmp_path: Path) -> None:
    text = report(replace(run, trades=[run.trades[0]] * 9_000), tmp_path)
    for name in ("equity", "distribution"):
        (plot,) = re.findall(rf'data-plot="{name}">(.*?)</div>', text, re.DOTALL)
        marks = re.findall(r'<span class="y"[^>]*>([^<]+)</span>', plot)
        assert any("," in mark for mark in marks)
        assert all(re.fullmatch(r"\d{1,3}(,\d{3})*", mark) for mark in marks), marks


def test_the_market_at_the_desks_exposure(run: RunRecord) -> None:
    """Nothing held: the start equity throughout. All in the market: the market. Between the two: bar by bar."""

    def lines(exposure: float) -> dict[str, list[float]]:
        record = replace(run, equity=[replace(row, exposure_frac=exposure) for row in run.equity])
        page = render(record, summarize(record, orders_sha256=""))
        data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
        return {line["name"]: line["values"] for line in data["plots"]["equity"]}

    scaled, start = "Market at the desk’s exposure", float(run.start_equity)
    assert set(lines(0.0)[scaled]) == {start}
    full = lines(1.0)
    assert full[scaled] == pytest.approx(full["Market, equal weight"], abs=0.02)
    expected, before = [start], start
    for value in full["Market, equal weight"]:
        expected.append(expected[-1] * (1 + 0.11 * (value / before - 1)))
        before = value
    assert lines(0.11)[scaled] == pytest.approx(expected[1:], rel=1e-5)


def test_every_table_by_tag_says_what_its_average_is(page: Path) -> None:
    assert page.read_text("utf8").count("Average is the mean of each trade’s own return") == 4


def test_each_pair_stands_beside_itself_held(run: RunRecord, tmp_path: Path) -> None:
    close = run.market_window.close[:, run.market_window.column["BTC/USDT"]]
    (row,) = re.findall(
        r'<tr><td class="t">BTC/USDT</td>(?:(?!</tr>).)*</tr>', report(run, tmp_path).partition('id="pairs"')[2].partition("</table>")[0]
    )
    held = f"{(close[-1] / close[0] - 1) * 100:+,.2f} %".replace("-", "−")
    assert re.sub(r"<[^>]+>", "|", row).split("|")[-3] == held


def test_every_text_is_escaped(run: RunRecord, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    trades = [replace(trade, enter_tag=evil, exit_reason=evil, strategy=evil, pair=evil) for trade in run.trades]
    rows = [replace(row, regime=evil) for row in run.equity]
    ticks = [{**line, "models": {evil: evil}, "limits": [evil]} for line in run.ticks if "models" in line]
    text = report(replace(run, trades=trades, equity=rows, ticks=ticks, note=evil), tmp_path)
    assert evil not in text
    assert "<script>alert" not in text
    assert text.count("<script") == text.count("</script>") == 2


PARTS = (
    "Equity",
    "Drawdown",
    "Exposure and regime",
    "Monthly returns",
    "How trades ended",
    "By exit reason",
    "By pair",
    "By strategy",
    "Model versions",
    "Limits that changed something",
    "Settings",
)


@pytest.mark.parametrize("part", PARTS)
def test_the_page_has_its_parts(page: Path, part: str) -> None:
    assert f">{part}<" in page.read_text("utf8")


@pytest.mark.parametrize("change", [{}, {"equity": ()}, {"ticks": (), "equity": ()}, {"pairs": ("GONE/USDT",)}])
def test_a_run_that_did_nothing_has_a_page(tmp_path: Path, change: dict[str, object]) -> None:
    text = report(replace(made_run(days=1, busy=False), **change), tmp_path)  # type: ignore[arg-type]
    assert "The run closed no trade." in text
    assert "nan" not in re.sub(r"<style>.*</script>", "", text, flags=re.DOTALL).lower()


def test_a_page_of_a_run_with_nothing_but_losses(run: RunRecord, tmp_path: Path) -> None:
    trades = [replace(trade, pnl=-abs(trade.pnl), pnl_frac=-abs(trade.pnl_frac)) for trade in run.trades]
    assert 'class="loss"' in report(replace(run, trades=trades), tmp_path)


def test_models_are_read_from_a_map_or_from_labels(run: RunRecord) -> None:
    lines = [{**line, "models": ["rotation_6h@v7"]} for line in run.ticks if "models" in line]
    with_labels = replace(run, ticks=lines)
    assert '<td class="t">v7</td>' in render(with_labels, summarize(with_labels, orders_sha256=""))


def test_a_sample_keeps_the_extremes() -> None:
    values = np.cumsum(np.random.default_rng(3).normal(size=30_000))
    kept = charts.sample(values)
    assert len(kept) < 2200
    assert {0, 29_999, int(values.argmin()), int(values.argmax())} <= set(kept.tolist())
    assert (np.diff(kept) > 0).all()


@pytest.mark.parametrize("values", [[], [5.0], [0.0, 0.0], [1e9, 1e9], [-3.0, 17.0], [1e-9, 2e-9]])
def test_a_value_axis_holds_all_values(values: list[float]) -> None:
    axis = charts.value_axis(values)
    assert axis.low < axis.high
    assert all(axis.low <= value <= axis.high for value in values)
    assert 2 <= len(axis.marks) <= 12


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_works_in_a_browser(chromium: str, page: Path, tmp_path: Path, width: int, scheme: str) -> None:
    with Browser(chromium, tmp_path / "profile") as browser:
        browser.open(page.as_uri(), width, scheme=scheme)
        assert browser.value("document.documentElement.scrollWidth") <= width
        drawn = browser.value("[...document.querySelectorAll('path.line')].map(p => p.getBoundingClientRect().width)")
        assert len(drawn) == 6
        assert browser.value("document.querySelector('.hint:has(+ .scroll #trades)').hidden") is (width > 1000)
        assert min(drawn) > width / 2
        shows_more_trades(browser)
        finds_trades(browser)
        sorts_on_a_click(browser)
        reads_values_out(browser)
        browser.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 50_000
        assert browser.complaints() == []
        assert browser.requests() == [page.as_uri()]


def column(browser: Browser, table: str, n: int) -> list[str]:
    return list(browser.value(f"[...document.querySelectorAll('#{table} tbody tr')].map(r => r.cells[{n}].textContent)"))


def numbers(browser: Browser, table: str, n: int) -> list[float]:
    return [float(text.replace(",", "").replace("−", "-").rstrip(" %")) for text in column(browser, table, n)]


def sorts_on_a_click(browser: Browser) -> None:
    before = numbers(browser, "pairs", 3)
    browser.click("#pairs th:nth-child(4) button")
    assert numbers(browser, "pairs", 3) == sorted(before, reverse=True)
    assert browser.value("document.querySelector('#pairs th:nth-child(4)').ariaSort") == "descending"
    browser.click("#pairs th:nth-child(4) button")
    assert numbers(browser, "pairs", 3) == sorted(before)
    assert min(before) < 0 < max(before)
    browser.click("#pairs th:nth-child(1) button")
    names = column(browser, "pairs", 0)
    assert names == sorted(names)
    assert len(set(names)) > 5
    browser.click("#trades th:nth-child(3) button")
    browser.click("section:has(#trades) .more")
    held = [minutes(text) for text in column(browser, "trades", 2)]
    assert held == sorted(held, reverse=True)
    assert len(set(held)) > 20


def minutes(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"min": 1, "h": 60, "d": 1440}[unit]


def shows_more_trades(browser: Browser) -> None:
    assert len(column(browser, "trades", 0)) == 25
    browser.click("section:has(#trades) .more")
    assert len(column(browser, "trades", 0)) > 25


def finds_trades(browser: Browser) -> None:
    """Words in the filter leave the trades that hold them all, in the order they had."""
    typed = "(() => {{ const f = document.querySelector('.filter'); f.value = '{}'; f.dispatchEvent(new Event('input')); }})()"
    browser.value(typed.format("btc left_target"))
    found = list(zip(column(browser, "trades", 0), column(browser, "trades", 9), strict=True))
    assert found
    assert set(found) == {("BTC/USDT", "left_target")}
    browser.value(typed.format("no such trade"))
    assert column(browser, "trades", 0) == []
    assert browser.value("document.querySelector('.count').textContent") == "0 of 0 shown"
    browser.value(typed.format(""))
    assert len(column(browser, "trades", 0)) == 25


def reads_values_out(browser: Browser) -> None:
    x, y = browser.place(".plot[data-plot=equity]")
    browser.mouse("mouseMoved", x, y)
    tip = browser.value("document.querySelector('.tip').innerText")
    assert re.search(r"2024-06-\d\d \d\d:\d\d UTC\nDesk: [\d,]+\.\d\d\nMarket, equal weight: ", tip)
    assert browser.value("document.querySelectorAll('.cross').length") == 3


def test_an_empty_page_works_in_a_browser(chromium: str, tmp_path: Path) -> None:
    report(replace(made_run(days=1, busy=False), equity=()), tmp_path / "out")
    with Browser(chromium, tmp_path / "profile") as browser:
        browser.open((tmp_path / "out" / "report.html").as_uri(), 390)
        assert browser.value("document.documentElement.scrollWidth") <= 390
        assert browser.complaints() == []


def test_settings_that_do_less_than_they_say_are_named(tmp_path: Path) -> None:
    run = made_run()
    plain = report(run, tmp_path / "plain")
    assert "Mind execution" not in plain
    execution = run.settings.execution.model_copy(update={"unfilled_requotes": 2})
    idle = replace(run, settings=run.settings.model_copy(update={"execution": execution}))
    assert "<p>Mind execution.unfilled_requotes: 2 does nothing with execution.order_type = &#x27;market&#x27;" in report(idle, tmp_path)
