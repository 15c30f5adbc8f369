"""``tickless params``: what is in SSM, changed one value at a time, compared with a desk file and the last deploy."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickless.cli.drift import BOTH_CHANGED, CHANGED_IN_DESK_FILE, CHANGED_IN_SSM, MISSING, SAME, compare_sections, key_changes
from tickless.cli.params import AT_DEPLOY, STRATEGY_AT_DEPLOY, split_key, with_value
from tickless.errors import SettingsError
from tickless.settings import load_desk, parse_section
from tickless.types import DeskState, LedgerUpdate

SECTIONS = load_desk("rotation").sections()


def edited(section: str, **values) -> str:
    return json.dumps({**json.loads(SECTIONS[section]), **values})


@pytest.fixture
def desk_file(tmp_path) -> Path:
    """A copy of the desk, changed in one place."""
    text = load_text().replace("time_stop_h = 24.0", "time_stop_h = 48.0")
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def load_text() -> str:
    from tickless.settings import read_desk

    return read_desk("rotation")[0]


def test_show_prints_what_is_in_ssm(tickless, put):
    put("risk", edited("risk", time_stop_h=12.0))
    shown = tickless.json("params", "show")
    assert shown["refused"] == {}
    assert shown["sections"] == {name: json.loads(text) for name, text in SECTIONS.items()} | {
        "risk": json.loads(SECTIONS["risk"]) | {"time_stop_h": 12.0}
    }
    table = tickless("params", "show", "risk").stdout
    assert "risk.time_stop_h" in table
    assert "12.0" in table
    assert "portfolio" not in table


def test_show_names_what_the_desk_refuses(tickless, put):
    put("risk", "rubbish")
    shown = tickless.json("params", "show", "risk")
    assert shown["sections"] == {}
    assert shown["texts"] == {"risk": "rubbish"}
    assert shown["refused"]["risk"].startswith("parameter risk: not JSON")
    result = tickless("params", "show")
    assert "rubbish" in result.stdout
    assert "keeps its last good value: parameter risk: not JSON" in result.stderr


def test_show_of_a_section_that_does_not_exist(tickless, deployed):
    assert "strategy.nope: unknown section; known: desk," in tickless.refused("params", "show", "strategy.nope")
    boto3.client("ssm").delete_parameter(Name="/tickless/dev/alerts")
    assert "/tickless/dev/alerts: no such parameter" in tickless.refused("params", "show", "alerts")


@pytest.mark.parametrize(
    ("key", "value", "section", "path", "written"),
    [
        ("risk.kill_switch_drawdown_frac", "0.15", "risk", ["kill_switch_drawdown_frac"], 0.15),
        ("risk.initial_stop_atr", "null", "risk", ["initial_stop_atr"], None),
        ("portfolio.top_k.trend", "3", "portfolio", ["top_k", "trend"], 3),
        ("schedule.retrain_at", "03:20", "schedule", ["retrain_at"], "03:20"),
        ("strategy.rotation.market_base", "ETH", "strategy.rotation", ["market_base"], "ETH"),
        ("universe.pair_whitelist", '["BTC/USDT", "ETH/USDT"]', "universe", ["pair_whitelist"], ["BTC/USDT", "ETH/USDT"]),
    ],
)
def test_set_changes_one_value_and_nothing_else(tickless, parameters, key, value, section, path, written):
    before = parameters()
    changes = tickless.json("params", "set", key, value)["changes"]
    assert [(change["key"], change["after"]) for change in changes] == [(key, written)]
    after = parameters()
    assert {name for name in after if after[name] != before[name]} == {section}
    content, expected = json.loads(after[section]), json.loads(before[section])
    node = expected
    for name in path[:-1]:
        node = node[name]
    assert changes[0]["before"] == node[path[-1]]
    node[path[-1]] = written
    assert content == expected


def test_the_next_tick_obeys(tickless, deployed):
    first = deployed.tick("full_rebalance", "2024-06-01T00:00:00Z").payload
    assert first["positions"] > 0
    for regime in ("trend", "chop", "down"):
        tickless("params", "set", f"portfolio.top_k.{regime}", "0")
    second = deployed.tick("full_rebalance", "2024-06-01T06:00:00Z").payload
    assert second["positions"] == 0


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("risk.kill_switch_drawdown_frac", "7", "risk.kill_switch_drawdown_frac: input should be less than or equal to 1 (got 7)"),
        ("risk.kill_switch", "0.1", "risk.kill_switch: unknown key (got 0.1)"),
        ("risk.time_stop_h", "soon", "risk.time_stop_h: input should be a valid number (got 'soon')"),
        ("risk.time_stop_h", "NaN", "risk.time_stop_h: input should be"),
        ("portfolio.top_k.sideways", "3", "portfolio.top_k.sideways: unknown key"),
        ("portfolio.tier1_cap_frac.deep", "1", "portfolio.tier1_cap_frac: is not a table with a key 'deep'"),
        ("desk.timeframe", "1h", "schedule.risk_check_every_min: 15 is not a multiple of desk.timeframe '1h'"),
        ("strategy.rotation.ema_fast_bars", "300", "strategy.rotation.ema_fast_bars: 300 must be smaller than ema_slow_bars (200)"),
        ("risk", "1", "risk: must be section.key"),
        ("nope.key", "1", "nope: unknown section"),
        ("universe.tier1", json.dumps(["A" * 9] * 500), "bytes as JSON, at most 4096"),
    ],
)
def test_set_refuses_and_writes_nothing(tickless, parameters, key, value, says):
    before = parameters()
    assert says in tickless.refused("params", "set", key, value)
    assert parameters() == before


def test_set_mends_a_bad_value_but_not_rubbish(tickless, put, parameters):
    put("risk", edited("risk", time_stop_h=-1))
    assert tickless.json("params", "set", "risk.time_stop_h", "6")["changes"] == [
        {"key": "risk.time_stop_h", "before": -1, "after": 6.0},
    ]
    assert parse_section("risk", parameters()["risk"])
    put("risk", "{")
    assert "risk: what is in SSM is not JSON" in tickless.refused("params", "set", "risk.time_stop_h", "6")
    assert parameters()["risk"] == "{"


def test_a_broken_neighbour_stands_in_with_its_last_good_value(tickless, deployed, put, parameters):
    put("schedule", edited("schedule", risk_check_every_min=30))
    put("desk", edited("desk", timeframe="30m"))
    deployed.tick("risk_check", "2024-06-01T00:30:00Z")
    put("schedule", "rubbish")
    result = tickless("params", "set", "desk.timeframe", "1h", code=2)
    assert "schedule.risk_check_every_min: 30 is not a multiple of desk.timeframe '1h'" in result.stderr
    assert "refused by the desk, which keeps its last good value: parameter schedule: not JSON" in result.stderr
    assert json.loads(parameters()["desk"])["timeframe"] == "30m"


def test_what_only_a_deploy_changes_is_said(tickless, deployed):
    assert AT_DEPLOY["schedule"] in tickless("params", "set", "schedule.retrain_at", "05:00").stderr
    assert tickless("params", "set", "risk.time_stop_h", "5").stderr == ""
    assert tickless("params", "set", "strategy.rotation.slope_bars", "5").stderr == ""


def test_a_new_strategy_and_other_times_of_a_scan_need_a_deploy(tickless, deployed, tmp_path, put, parameters):
    both = tmp_path / "both.toml"
    both.write_text(load_text() + "\n[strategy.crossover]\n")
    needs_deploy = f"strategy.crossover: {STRATEGY_AT_DEPLOY}"
    assert needs_deploy in tickless("params", "push", "--desk", both, "--yes").stderr
    assert parameters()["strategy.crossover"] == load_desk(str(both)).sections()["strategy.crossover"]
    assert tickless("params", "set", "strategy.crossover.stake", "500").stderr == ""
    put("desk", edited("desk", timeframe="5m"))
    assert needs_deploy in tickless("params", "set", "strategy.crossover.scan_every_min", "5").stderr


def test_setting_the_same_value_writes_no_new_version(tickless, deployed):
    assert tickless("params", "set", "risk.time_stop_h", "24").stdout == "nothing changes\n"
    assert boto3.client("ssm").get_parameter(Name="/tickless/dev/risk")["Parameter"]["Value"] == SECTIONS["risk"]
    versions = boto3.client("ssm").get_parameter_history(Name="/tickless/dev/risk")["Parameters"]
    tickless("params", "set", "risk.time_stop_h", "24")
    assert len(boto3.client("ssm").get_parameter_history(Name="/tickless/dev/risk")["Parameters"]) == len(versions)


def test_push_asks_first(tickless, desk_file, parameters):
    before = parameters()
    declined = tickless("params", "push", "--desk", desk_file, stdin="n\n", code=1)
    assert "risk.time_stop_h" in declined.stdout
    assert "Write this to the desk dev?" in declined.stderr
    assert parameters() == before
    tickless("params", "push", "--desk", desk_file, stdin="y\n")
    assert parameters() == load_desk(str(desk_file)).sections()


def test_push_where_nobody_can_be_asked_is_refused(tickless, desk_file, parameters):
    before = parameters()
    result = tickless("params", "push", "--desk", desk_file, stdin="", code=3)
    assert result.stderr.splitlines()[-1] == "tickless: push changes what dev trades by, and nobody is here to be asked; say --yes"
    assert parameters() == before


def test_a_negative_value_is_no_option(tickless, deployed, parameters):
    changed = tickless.json("params", "set", "execution.limit_offset_bps", "-5", "--stage", "dev")["changes"]
    assert [(change["key"], change["after"]) for change in changed] == [("execution.limit_offset_bps", -5.0)]
    assert '"limit_offset_bps":-5.0' in parameters()["execution"]
    tickless("params", "set", "execution.limit_offset_bps", "--", "-1e0")
    assert '"limit_offset_bps":-1.0' in parameters()["execution"]
    assert "No such option: --stge" in tickless.refused("params", "set", "execution.limit_offset_bps", "-5", "--stge", "dev")


def test_push_without_asking(tickless, desk_file, put, parameters):
    put("strategy.old", "{}")
    put("portfolio", "rubbish")
    done = tickless("params", "push", "--desk", desk_file, "--set", "risk.block_after_stop=false", "--yes", "--json")
    changes = {change["key"]: change["after"] for change in json.loads(done.stdout)["changes"]}
    assert changes["risk.time_stop_h"] == 48.0
    assert changes["risk.block_after_stop"] is False
    assert changes["portfolio.top_k.trend"] == 8
    assert "strategy.old: in SSM and not in" in done.stderr
    wanted = load_desk(str(desk_file), ["risk.block_after_stop=false"]).sections()
    assert parameters() == {**wanted, "strategy.old": "{}"}
    assert tickless("params", "push", "--desk", desk_file, "--set", "risk.block_after_stop=false").stdout == "nothing changes\n"


def test_push_of_a_bad_desk_file_writes_nothing(tickless, tmp_path, parameters):
    before = parameters()
    bad = tmp_path / "bad.toml"
    bad.write_text("[risk]\ntime_stop_h = 3.0\n[portfolio]\ntier1_cap_frac = 1.5\n")
    assert "portfolio.tier1_cap_frac" in tickless.refused("params", "push", "--desk", bad, "--yes")
    assert "--json: nobody can be asked" in tickless.refused("params", "push", "--desk", "rotation", "--json")
    assert parameters() == before


def statuses(diff) -> dict[str, str]:
    return {entry["section"]: entry["status"] for entry in diff["sections"] if entry["status"] != SAME}


def test_diff_right_after_a_deploy_is_empty(tickless, deployed):
    diff = tickless.json("params", "diff", "--desk", "rotation")
    assert statuses(diff) == {}
    assert [entry["section"] for entry in diff["sections"]] == list(SECTIONS)
    assert diff["overwrites"] == []


def test_diff_tells_who_changed_what(tickless, desk_file, put):
    put("portfolio", edited("portfolio", min_order_value=50.0))
    diff = tickless.json("params", "diff", "--desk", desk_file)
    assert statuses(diff) == {"portfolio": CHANGED_IN_SSM, "risk": CHANGED_IN_DESK_FILE}
    differences = {d["key"]: d for entry in diff["sections"] for d in entry["differences"]}
    assert differences == {
        "portfolio.min_order_value": {"key": "portfolio.min_order_value", "desk_file": 100.0, "ssm": 50.0, "last_deploy": 100.0},
        "risk.time_stop_h": {"key": "risk.time_stop_h", "desk_file": 48.0, "ssm": 24.0, "last_deploy": 24.0},
    }


def test_diff_warns_where_a_deploy_overwrites(tickless, desk_file, put):
    put("risk", edited("risk", kill_switch_drawdown_frac=0.1))
    result = tickless("params", "diff", "--desk", desk_file, code=1)
    assert "a deploy OVERWRITES what was changed in SSM" in result.stdout
    assert "risk.kill_switch_drawdown_frac" in result.stdout
    assert f"a deploy of {desk_file} would overwrite what was changed in SSM: risk;" in result.stderr
    diff = tickless.json("params", "diff", "--desk", desk_file, code=1)
    assert statuses(diff) == {"risk": BOTH_CHANGED}
    assert diff["overwrites"] == ["risk"]


def test_diff_takes_the_same_change_in_both_places_for_same(tickless, desk_file, put):
    put("risk", edited("risk", time_stop_h=48))
    assert statuses(tickless.json("params", "diff", "--desk", desk_file)) == {}


def test_diff_names_what_is_missing(tickless, deployed):
    boto3.client("ssm").delete_parameter(Name="/tickless/dev/alerts")
    diff = tickless.json("params", "diff", "--desk", "rotation")
    assert statuses(diff) == {"alerts": MISSING}
    assert "until then the last good value is in force" in tickless("params", "diff", "--desk", "rotation").stdout


def test_every_case_of_a_missing_section():
    text, other = SECTIONS["risk"], edited("risk", time_stop_h=1.0)

    def one(desk_file, ssm, last_deploy):
        places = ({} if value is None else {"risk": value} for value in (desk_file, ssm, last_deploy))
        (entry,) = compare_sections(*places)
        assert entry.status == MISSING
        return entry.effect.partition(":")[0], entry.overwrites

    assert one(None, text, None) == ("only in SSM", False)
    assert one(None, text, text) == ("not in the desk file", False)
    assert one(None, other, text) == ("not in the desk file", True)
    assert one(None, None, text) == ("not in the desk file", False)
    assert one(text, None, text) == ("not in SSM", False)
    assert one(text, None, None) == ("not in SSM", False)
    assert one(text, other, None) == ("not in the last deploy", False)


HOURS = st.sampled_from([None, 1.0, 2.0, 3.0])


@given(HOURS, HOURS, HOURS)
def test_a_deploy_overwrites_exactly_what_cloudformation_would(desk_file, ssm, last_deploy):
    texts = [
        {"risk": SECTIONS["risk"].replace('"time_stop_h":24.0', f'"time_stop_h":{json.dumps(v)}')} for v in (desk_file, ssm, last_deploy)
    ]
    (entry,) = compare_sections(*texts)
    after_deploy = desk_file if desk_file != last_deploy else ssm
    changed_by_a_person = ssm != last_deploy
    assert entry.overwrites == (changed_by_a_person and after_deploy != ssm)
    assert (entry.status == SAME) == (desk_file == ssm)
    assert bool(entry.differences) == (len({desk_file, ssm, last_deploy}) > 1)


KEYS = [key for name, text in SECTIONS.items() for key, _, _ in key_changes(name, None, text)]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 1000) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(KEYS), JSON_VALUES)
def test_a_value_is_refused_or_changes_its_key_alone(key, value):
    section, path = split_key(key)
    text, refusal = None, ""
    try:
        text = with_value(section, SECTIONS[section], path, value)
    except SettingsError as error:
        refusal = str(error)
    if text is None:
        assert refusal.startswith(f"parameter {section}")
    else:
        assert json.loads(text) == json.loads(text, parse_constant=pytest.fail)
        assert parse_section(section, text)
        assert {changed for changed, _, _ in key_changes(section, SECTIONS[section], text)} <= {key}


def test_no_stack_and_no_credentials(tickless, deployed, monkeypatch):
    assert "stack tickless-prod: not deployed in this account and region" in tickless.refused("params", "show", "--stage", "prod")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    assert "stack tickless-dev: no AWS credentials that work" in tickless.refused("params", "show")


def test_the_region_is_that_of_the_aws_command(tickless, deployed, monkeypatch):
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "stack tickless-dev: no AWS region; set AWS_REGION" in tickless.refused("params", "show")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert "stack tickless-dev: not deployed in this account and region" in tickless.refused("params", "show")


LIVE = ("--set", "desk.mode=live", "--set", "desk.secret_name=desk/keys")


def test_push_goes_live_only_where_that_is_said(tickless, put):
    for words in ((), ("--yes",)):
        sentence = tickless.refused("params", "push", "--desk", "rotation", *LIVE, *words, code=3)
        assert "desk.mode: 'live' in the place of 'dry_run' is another account: dev would send real orders to binance" in sentence
    assert mode() == "dry_run"
    tickless("params", "push", "--desk", "rotation", *LIVE, "--yes", "--live")
    assert mode() == "live"
    tickless("params", "push", "--desk", "rotation", *LIVE, "--set", "risk.time_stop_h=12.0", "--yes")
    tickless.refused("params", "set", "desk.exchange", "kraken", code=3)
    tickless("params", "push", "--desk", "rotation", "--yes")
    assert mode() == "dry_run", "back needs no word"


def test_set_goes_live_only_where_that_is_said(tickless, put):
    put("desk", edited("desk", secret_name="desk/keys"))
    assert "say --live" in tickless.refused("params", "set", "desk.mode", "live", code=3)
    assert mode() == "dry_run"
    tickless("params", "set", "desk.mode", "live", "--live")
    assert mode() == "live"
    assert "LIVE on binance, spot: REAL MONEY" in tickless("status").stdout
    tickless("params", "set", "desk.sandbox", "true", "--live")
    assert "LIVE on binance, spot: its SANDBOX, test money" in tickless("status").stdout
    assert tickless.json("status")["sandbox"] is True


def mode() -> str:
    return json.loads(boto3.client("ssm").get_parameter(Name="/tickless/dev/desk")["Parameter"]["Value"])["mode"]


def desk_has_run(deployed, **account):
    """A desk whose ledger is that of the account in SSM with these values, without a tick."""
    ledger = deployed.adapters.ledger
    fence = ledger.acquire("test", datetime(2024, 6, 1, tzinfo=UTC), 60)
    texts = {**load_desk("rotation").sections(), "desk": edited("desk", **account)}
    ledger.journal(fence, [LedgerUpdate(desk=DeskState(Decimal(1000), Decimal(1000)), settings=texts)])
    ledger.release(fence)


def test_show_and_diff_name_the_account_that_the_desk_refuses(tickless, deployed, put, tmp_path):
    desk_has_run(deployed)
    put("desk", edited("desk", mode="live", secret_name="desk/keys"))
    (sentence,) = tickless.json("status")["refused_parameters"]
    shown = tickless.json("params", "show")
    assert (shown["refused"], list(shown["texts"])) == ({"desk": sentence}, ["desk"])
    assert f"keeps its last good value: {sentence}" in tickless("params", "show", "desk").stderr
    assert tickless("params", "show", "risk").stderr == ""
    live = ("params", "diff", "--desk", "rotation", *LIVE)
    assert tickless.json(*live)["refused"] == {"desk": sentence}
    assert sentence in tickless(*live).stderr


def test_show_names_sections_that_do_not_fit_together_or_are_gone(tickless, deployed, put):
    desk_has_run(deployed)
    put("desk", edited("desk", timeframe="1h"))
    boto3.client("ssm").delete_parameter(Name="/tickless/dev/alerts")
    refused = tickless.json("params", "show")["refused"]
    assert list(refused) == ["alerts", "all"]
    assert "is not a multiple of desk.timeframe" in refused["all"]
    assert list(refused.values()) == tickless.json("status")["refused_parameters"]


def test_another_account_is_not_written_before_the_desk_can_move_there(tickless, deployed, parameters, put):
    live = edited("desk", mode="live", secret_name="desk/keys")
    put("desk", live)
    desk_has_run(deployed, mode="live", secret_name="desk/keys")
    for words in (("set", "desk.mode", "dry_run"), ("push", "--desk", "rotation", "--yes")):
        sentence = tickless.refused("params", *words, code=3)
        assert "desk.mode: 'dry_run' in the place of 'live' is another account" in sentence
        assert "its next tick would refuse it and go on as LIVE on binance, spot: REAL MONEY; `tickless flatten --yes` first" in sentence
    assert json.loads(parameters()["desk"]) == json.loads(live)
    tickless("params", "set", "desk.secret_name", "desk/new")
    put("desk", SECTIONS["desk"])
    tickless("params", "set", "desk.name", "other")
    tickless("params", "set", "desk.mode", "live", "--live", code=2)
    put("desk", edited("desk", secret_name="desk/keys"))
    tickless("params", "set", "desk.mode", "live", "--live")
    tickless("flatten", "--yes")
    tickless("params", "set", "desk.mode", "dry_run")
    assert mode() == "dry_run"
