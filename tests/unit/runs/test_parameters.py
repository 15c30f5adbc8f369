"""Settings at a tick: what the parameters say, and the last good value of what they say badly."""

from __future__ import annotations

import pytest

from made_world import World, at
from tickless.errors import SettingsError, StaleTickError
from tickless.runs.parameters import resolve_settings
from tickless.settings import Settings, load_desk

GOOD = load_desk("rotation").sections()


def with_(**changes: str) -> dict[str, str]:
    return {**GOOD, **changes}


def test_good_sections_are_taken_and_kept_the_first_time():
    loaded = resolve_settings(GOOD, {})
    assert loaded.settings == load_desk("rotation")
    assert (loaded.fresh, loaded.refused) == (GOOD, ())


def test_only_what_changed_is_kept_anew():
    text = GOOD["risk"].replace("0.0175", "0.02")
    loaded = resolve_settings(with_(risk=text), GOOD)
    assert loaded.settings.risk.max_position_loss_frac == 0.02
    assert (loaded.fresh, loaded.refused) == ({"risk": text}, ())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rubbish", "parameter risk: not JSON"),
        ('{"time_stop_h": -1}', "parameter risk.time_stop_h: "),
        ('{"stop": 1}', "parameter risk.stop: unknown key"),
        ("[]", "parameter risk: must be a table"),
    ],
)
def test_a_broken_section_keeps_its_last_good_value_and_the_others_their_new_ones(text, sentence):
    last = with_(risk=GOOD["risk"].replace("0.0175", "0.02"))
    alerts = GOOD["alerts"].replace("0.1", "0.2")
    loaded = resolve_settings(with_(risk=text, alerts=alerts), last)
    assert loaded.settings.risk.max_position_loss_frac == 0.02
    assert loaded.settings.alerts.drawdown_alarm_frac == 0.2
    assert loaded.fresh == {"alerts": alerts}
    (refused,) = loaded.refused
    assert refused.startswith(sentence)


def test_several_broken_sections_are_each_refused():
    loaded = resolve_settings(with_(risk="{", desk="{", schedule="{"), GOOD)
    assert loaded.settings == load_desk("rotation")
    assert [sentence.split(":")[0] for sentence in loaded.refused] == ["parameter desk", "parameter risk", "parameter schedule"]


def test_a_parameter_that_disappeared_keeps_its_last_good_value():
    loaded = resolve_settings({name: text for name, text in GOOD.items() if name != "risk"}, GOOD)
    assert loaded.settings == load_desk("rotation")
    assert loaded.refused == ("parameter risk: missing",)


def test_sections_that_do_not_fit_together_leave_everything_as_it_was():
    hourly = GOOD["desk"].replace('"15m"', '"1h"')
    alerts = GOOD["alerts"].replace("0.1", "0.2")
    loaded = resolve_settings(with_(desk=hourly, alerts=alerts), GOOD)
    assert loaded.settings == load_desk("rotation")
    assert loaded.fresh == {}
    (refused,) = loaded.refused
    assert "schedule.risk_check_every_min: 15 is not a multiple of desk.timeframe '1h'" in refused


def test_a_parameter_that_no_section_has_is_refused_and_nothing_depends_on_it():
    loaded = resolve_settings(with_(rsik="{}"), {})
    assert loaded.settings == load_desk("rotation")
    assert loaded.refused[0].startswith("rsik: unknown section")
    assert "rsik" not in loaded.fresh


def test_a_section_that_was_good_before_an_upgrade_removed_it_does_not_stop_the_desk():
    gone = {"retired": "{}"}
    assert resolve_settings({**GOOD, **gone}, {**GOOD, **gone}).settings == load_desk("rotation")
    assert resolve_settings(GOOD, {**GOOD, **gone}).settings == load_desk("rotation")
    misfit = with_(desk=GOOD["desk"].replace('"15m"', '"1h"'))
    assert resolve_settings(misfit, {**GOOD, **gone}).settings == load_desk("rotation")


@pytest.mark.parametrize("texts", [with_(risk="{"), with_(desk=GOOD["desk"].replace('"15m"', '"1h"'))])
def test_without_a_last_good_value_the_tick_fails_by_name(texts):
    with pytest.raises(SettingsError, match=r"risk|schedule\.risk_check_every_min"):
        resolve_settings(texts, {})


# In a tick


def test_a_change_takes_effect_at_the_next_tick_and_rubbish_is_refused_with_a_metric(world: World):
    world.run("risk_check", at(0))
    strict = GOOD["alerts"].replace("0.1", "0.3")
    world.parameters.write("alerts", strict)
    world.run("risk_check", at(1))
    assert world.ledger.load().settings["alerts"] == strict
    world.parameters.write("alerts", "rubbish")
    world.parameters.write("risk", "rubbish")
    world.run("risk_check", at(2))
    assert world.ledger.load().settings["alerts"] == strict
    assert world.metrics.counts["SettingsRefused"] == 2
    assert sum(line[1] == "parameter refused" for line in world.log.lines) == 2


def test_retrain_refuses_by_metric_too(world: World):
    world.run("risk_check", at(0))
    world.parameters.write("risk", "rubbish")
    world.run("retrain", at(1))
    assert world.metrics.counts["SettingsRefused"] == 1


def test_a_broken_schedule_keeps_its_last_good_age_limit(new_world):
    world = new_world("schedule.max_event_age_s=1200")
    world.run("risk_check", at(0))
    world.parameters.write("schedule", "rubbish")
    assert world.run("risk_check", at(1), late_s=1100).status == "done"
    with pytest.raises(StaleTickError, match="max_event_age_s = 1200"):
        world.run("risk_check", at(2), late_s=1300)


def test_a_desk_without_the_strategy_it_needs_fails_by_name(world: World):
    plain: Settings = world.settings
    del world.parameters._sections["strategy.rotation"]
    assert "strategy.rotation" in plain.sections()
    with pytest.raises(SettingsError, match=r"strategy\.rotation"):
        world.run("full_rebalance", at(0))


LIVE = ("desk.mode=live", "desk.secret_name=desk/keys")


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ((), LIVE, "mode: 'live' in the place of 'dry_run'"),
        (LIVE, (), "mode: 'dry_run' in the place of 'live'"),
        (LIVE, (*LIVE, "desk.exchange=kraken"), "exchange: 'kraken' in the place of 'binance'"),
        (LIVE, (*LIVE, "desk.market_type=swap"), "market_type: 'swap' in the place of 'spot'"),
        ((*LIVE, "desk.sandbox=true"), LIVE, "sandbox: False in the place of True"),
        (LIVE, (*LIVE, "desk.stake_currency=EUR"), "stake_currency: 'EUR' in the place of 'USDT'"),
    ],
)
def test_a_ledger_stays_with_its_account_until_the_desk_may_move(before, after, key):
    was, wanted = load_desk("rotation", before).sections(), load_desk("rotation", after).sections()
    kept = resolve_settings(wanted, was)
    assert kept.settings == load_desk("rotation", before)
    assert "desk" not in kept.fresh
    (sentence,) = kept.refused
    assert sentence.startswith(f"parameter desk: desk.{key} is another account")
    moved = resolve_settings(wanted, was, may_move=True)
    assert (moved.settings, moved.refused) == (load_desk("rotation", after), ())
    assert resolve_settings(wanted, {}).settings.desk.mode == load_desk("rotation", after).desk.mode, "a desk that has never run"


@pytest.mark.parametrize(("before", "after"), [(LIVE, (*LIVE, "desk.secret_name=desk/new-keys")), ((), ("desk.exchange=kraken",))])
def test_other_keys_and_another_dry_run_are_no_other_account(before, after):
    found = resolve_settings(load_desk("rotation", after).sections(), load_desk("rotation", before).sections())
    assert (found.settings, found.refused) == (load_desk("rotation", after), ())
