"""What a desk's account does that its settings do not say: liquidation, and stops that rest nowhere. Pure."""

from __future__ import annotations

from tickless.settings.exchanges import BUYS_BY_VALUE, RESTING_STOPS
from tickless.settings.files import Settings


def account_cautions(settings: Settings) -> list[str]:
    """One sentence for each, naming keys and values."""
    return [*_liquidation(settings), *_no_resting_stops(settings), *_no_crossing(settings)]


def _liquidation(settings: Settings) -> list[str]:
    """Isolated contracts that the exchange closes before the desk would."""
    desk, limit = settings.desk, settings.risk.max_position_loss_frac
    if desk.leverage == 1 or desk.margin_mode != "isolated":
        return []
    room = 1 / desk.leverage
    where = f"desk.leverage: {desk.leverage} lets the exchange liquidate a position before it has fallen by {100 * room:.3g} %"
    if limit is not None:
        late = limit >= room
        return [f"{where}, and risk.max_position_loss_frac = {limit:g} closes it no sooner"] if late else []
    if settings.risk.initial_stop_atr is None:
        return [f"{where}, and no stop closes it sooner: risk.max_position_loss_frac and risk.initial_stop_atr are off"]
    atr = f"risk.initial_stop_atr = {settings.risk.initial_stop_atr:g}"
    return [f"{where}, and a stop of {atr} may lie beyond that: set risk.max_position_loss_frac"]


def _no_resting_stops(settings: Settings) -> list[str]:
    exchange = settings.desk.exchange
    if settings.desk.mode != "live" or not settings.execution.stoploss_on_exchange or exchange in RESTING_STOPS:
        return []
    check = f"the desk's own check, every {settings.schedule.risk_check_every_min} min, is all there is"
    return [f"execution.stoploss_on_exchange: true does nothing at {exchange}, where none of ours rests: {check}"]


def _no_crossing(settings: Settings) -> list[str]:
    desk, execution = settings.desk, settings.execution
    by_value = desk.mode == "live" and desk.market_type == "spot" and desk.exchange in BUYS_BY_VALUE
    if not by_value or execution.unfilled_action != "cross":
        return []
    return [f"execution.unfilled_action: 'cross' sends sells alone at {desk.exchange}, which takes market buys by their cost"]
