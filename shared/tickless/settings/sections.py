"""The frozen sections of a desk file, one for each stage of a tick.

A validator's message about one key starts with that key and a colon, so that errors can name the key's full path.
Units are in the names: ``_frac`` (0.10 is ten per cent), ``_bps``, ``_s``, ``_min``, ``_h``, ``_days``;
amounts of money are in the stake currency.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from tickless.settings.exchanges import NO_SPOT_SANDBOX, exchange_refusal

Frac = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Bps = Annotated[float, Field(ge=0.0, le=1000.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
ROOSTOO = "roostoo"
"""The one exchange that ccxt does not know: an adapter of its own, without candles."""
Timeframe = Literal["1m", "3m", "5m", "15m", "30m", "1h"]


class Section(BaseModel):
    """A frozen section. Unknown keys, wrong types and values out of range are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class DeskSection(Section):
    """One exchange account."""

    name: str = Field(default="rotation", pattern=r"^[a-z0-9_-]{1,32}$")
    mode: Literal["dry_run", "live"] = "dry_run"
    """``dry_run``: real market, simulated fills. ``live``: a real account, with real orders."""
    exchange: str = Field(default="binance", pattern=r"^[a-z0-9_]{2,32}$")
    """A ccxt exchange id, or ``roostoo``: the source of bars and of the pairs' filters."""
    bars_exchange: str = Field(default="", pattern=r"^[a-z0-9_]{0,32}$")
    """Where the bars of an exchange without candles come from: a ccxt exchange id; empty = the exchange itself."""
    bars_currency: str = Field(default="", pattern=r"^[A-Z0-9]{0,10}$")
    """What the pairs of ``bars_exchange`` are quoted in; empty = the stake currency."""
    stake_currency: str = Field(default="USDT", pattern=r"^[A-Z0-9]{2,10}$")
    dry_run_wallet: Decimal = Field(default=Decimal(50_000), gt=0, le=Decimal(10**12), strict=False)
    timeframe: Timeframe = "15m"
    secret_name: str = Field(default="", pattern=r"^[A-Za-z0-9/_+=.@:-]{0,256}$")
    """Where the account's keys are: a secret of Secrets Manager, or an SSM SecureString where it begins with ``/``."""
    sandbox: bool = False
    """Trade at the exchange's test or demo site."""
    market_type: Literal["spot", "swap"] = "spot"
    """``swap``: perpetual contracts quoted and settled in the stake currency."""
    leverage: int = Field(default=1, ge=1, le=20)
    """Of contracts; what the exchange is told, not how much is bought."""
    margin_mode: Literal["isolated", "cross"] = "isolated"
    """Of contracts."""

    def other_account(self, before: DeskSection) -> str:
        """What makes this another account than ``before``: a sentence's beginning that names key and values; empty where nothing does.

        Two dry runs never differ: their wallet is simulated. Nor does another secret make another account: keys are replaced.
        """
        if "live" not in (self.mode, before.mode):
            return ""
        for name in ("mode", "exchange", "market_type", "sandbox", "stake_currency"):
            old, new = getattr(before, name), getattr(self, name)
            if old != new:
                return f"{name}: {new!r} in the place of {old!r} is another account"
        return ""

    def pair(self, base: str) -> str:
        """The desk's market of a base asset: ``BTC/USDT``, or the contract ``BTC/USDT:USDT``."""
        stake = self.stake_currency
        return f"{base}/{stake}:{stake}" if self.market_type == "swap" else f"{base}/{stake}"

    @model_validator(mode="after")
    def _fits_the_account(self) -> Self:
        if self.market_type == "spot" and self.leverage != 1:
            raise ValueError(f"leverage: {self.leverage} needs desk.market_type 'swap'; spot has none")
        if self.exchange == ROOSTOO and self.bars_exchange in ("", ROOSTOO):
            raise ValueError("bars_exchange: roostoo has no candles; name the exchange that its bars come from, such as 'binance'")
        if self.exchange == ROOSTOO and self.market_type != "spot":
            raise ValueError("market_type: roostoo has no 'swap'")
        if self.exchange == ROOSTOO and self.sandbox:
            raise ValueError("sandbox: roostoo has none; all of its money is play money")
        if self.exchange != ROOSTOO and (self.bars_exchange or self.bars_currency):
            name = "bars_exchange" if self.bars_exchange else "bars_currency"
            raise ValueError(f"{name}: {getattr(self, name)!r} is for an exchange without candles; {self.exchange} has its own")
        if self.mode == "live" and not self.secret_name:
            raise ValueError("secret_name: missing; a live desk needs the name of the secret with its keys")
        if self.mode == "live" and self.exchange != ROOSTOO and (why := exchange_refusal(self.exchange, self.market_type)):
            raise ValueError(f"exchange: {self.exchange!r}: {why}")
        if self.mode == "live" and self.sandbox and self.market_type == "spot" and self.exchange in NO_SPOT_SANDBOX:
            raise ValueError(f"sandbox: {self.exchange} has none for spot; begin with a dry run, then with an account that holds little")
        return self


class UniverseSection(Section):
    """Which pairs the desk may trade, and their tiers."""

    pair_whitelist: tuple[str, ...] = Field(default=("*",), min_length=1)
    """Pairs, or ``["*"]`` for every pair that has the base timeframe."""
    pair_blacklist: tuple[str, ...] = ()
    tier1: tuple[str, ...] = ()
    """Base assets; lists win over the volume rank."""
    tier2: tuple[str, ...] = ()
    tier3: tuple[str, ...] = ()
    tier1_rank_count: int = Field(default=15, ge=0)
    """A pair in no list: the first so many by trailing median daily quote volume are tier 1."""
    tier2_rank_count: int = Field(default=25, ge=0)
    rank_window_days: int = Field(default=30, ge=1, le=90)
    min_age_days: float = Field(default=1.0, ge=0.0, le=365.0)
    """Bars a pair must have had for this long before it may be bought."""
    min_daily_volume: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Trailing median daily quote volume, in the stake currency; 0 = no filter."""
    max_gap_bars: int = Field(default=4, ge=0, le=96)
    """Indicators bridge up to so many missing bars with the last close; a longer gap starts them anew."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("pair_whitelist", "pair_blacklist"):
            for pair in getattr(self, name):
                if pair != "*" and not re.fullmatch(r"[A-Z0-9]+/[A-Z0-9]+(:[A-Z0-9]+)?", pair):
                    raise ValueError(f"{name}: {pair!r} is not a pair such as 'BTC/USDT'")
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                twice = next(pair for pair in getattr(self, name) if getattr(self, name).count(pair) > 1)
                raise ValueError(f"{name}: {twice!r} is named twice")
        if "*" in self.pair_blacklist:
            raise ValueError("pair_blacklist: '*' would leave no pair to trade")
        if "*" in self.pair_whitelist and len(self.pair_whitelist) > 1:
            raise ValueError("pair_whitelist: '*' stands alone")
        seen: dict[str, str] = {}
        for tier in ("tier1", "tier2", "tier3"):
            for base in getattr(self, tier):
                if not re.fullmatch(r"[A-Z0-9]+", base):
                    raise ValueError(f"{tier}: {base!r} is not a base asset such as 'BTC'")
                if base in seen:
                    raise ValueError(f"{tier}: {base!r} is in {seen[base]} already; tiers must not overlap")
                seen[base] = tier
        return self


class ExecutionSection(Section):
    """How orders are sent, and what the simulated exchange charges."""

    taker_fee_bps: Bps = 10.0
    maker_fee_bps: Bps = 10.0
    slippage_bps: Bps = 1.5
    """Added to the price of every taker fill, each side."""
    latency_s: float = Field(default=0.0, ge=0.0, le=3600.0, allow_inf_nan=False)
    max_participation_frac: Frac = 0.1
    """A fill takes at most this share of the last closed bar's volume; 0 = no limit."""
    order_type: Literal["market", "limit"] = "market"
    limit_offset_bps: float = Field(default=0.0, ge=-500.0, le=500.0, allow_inf_nan=False)
    """A limit order's distance from the last close, towards the far side (positive = more aggressive)."""
    unfilled_timeout_s: int = Field(default=1800, ge=60, le=86_400)
    """How long an order may wait; what is not filled by then ends."""
    unfilled_requotes: int = Field(default=0, ge=0, le=20)
    """How often a limit order that ran out of time with something left is quoted again, at the price of then."""
    unfilled_action: Literal["cancel", "cross"] = "cancel"
    """What becomes of the rest once no re-quote is left: ``cancel`` leaves it, ``cross`` sends it as a market order."""
    filters: bool = True
    close_at_end: bool = False
    buy_cushion_bps: Bps = 50.0
    """Cash kept back from a tick's market buys for the move between the last close and the fill."""
    requests_per_min: int = Field(default=0, ge=0, le=100_000)
    """Request weight that all functions of a live desk may spend in any minute; 0 = what the exchange is known to allow."""
    request_reserve_frac: Annotated[float, Field(ge=0.0, le=0.9, allow_inf_nan=False)] = 0.2
    """Of that weight, the share that only exits may spend."""
    stoploss_on_exchange: bool = False
    """Whether each position's stop rests at the exchange between two ticks, where that takes stops."""
    stoploss_min_move_frac: Annotated[float, Field(ge=0.0, le=0.1, allow_inf_nan=False)] = 0.001
    """By how much, as a share of its price, a stop must have risen before the one at the exchange is moved."""
    stoploss_limit_frac: Annotated[float, Field(gt=0.0, le=0.2, allow_inf_nan=False)] = 0.01
    """How far below its stop a stop-limit order may fill, where the market takes no stop-market order."""


class RegimeFracs(Section):
    """One share for each regime."""

    trend: Frac
    chop: Frac
    down: Frac

    def of(self, regime: str) -> float:
        """The value for ``regime``; raises AttributeError for a name that is no regime."""
        return float(getattr(self, regime))


class RegimeCounts(Section):
    """One count for each regime."""

    trend: int = Field(ge=0, le=500)
    chop: int = Field(ge=0, le=500)
    down: int = Field(ge=0, le=500)

    def of(self, regime: str) -> int:
        """The value for ``regime``; raises AttributeError for a name that is no regime."""
        return int(getattr(self, regime))


class PortfolioSection(Section):
    """From proposals to target weights (shares of equity)."""

    @field_validator("top_k", "cash_buffer_frac", mode="before")
    @classmethod
    def _fill_up(cls, value: Any, info: ValidationInfo) -> Any:
        """A regime left out keeps its default."""
        default = cls.model_fields[str(info.field_name)].default
        return {**default.model_dump(), **value} if isinstance(value, Mapping) else value

    top_k: RegimeCounts = RegimeCounts(trend=8, chop=6, down=4)
    cash_buffer_frac: RegimeFracs = RegimeFracs(trend=0.10, chop=0.20, down=0.60)
    tier1_cap_frac: Frac = 0.15
    tier2_cap_frac: Frac = 0.10
    tier3_cap_frac: Frac = 0.05
    tier3_sleeve_frac: Frac = 0.12
    volatility_floor_frac: Annotated[float, Field(gt=0.0, le=1.0)] = 0.001
    cut_off_goes_to: Literal["cash", "candidates"] = "cash"
    """What a cap cuts off: stays cash, or goes to the remaining candidates."""
    hysteresis_frac: Frac = 0.05
    full_hysteresis_frac: Frac = 0.02
    min_order_value: float = Field(default=100.0, ge=0.0, allow_inf_nan=False)

    def tier_cap_frac(self, tier: int) -> float:
        """The cap of one position in ``tier`` (1 to 3)."""
        return (self.tier1_cap_frac, self.tier2_cap_frac, self.tier3_cap_frac)[tier - 1]


class DrawdownStep(Section):
    """Below a drawdown, targets are scaled."""

    drawdown_frac: Annotated[float, Field(gt=0.0, le=1.0)]
    scale_frac: Frac


class RiskSection(Section):
    """Stops, drawdown scaling, kill switch."""

    initial_stop_atr: Positive | None = 1.3
    trail_arm_atr: Positive | None = 0.8
    trail_distance_atr: Positive = 1.0
    max_position_loss_frac: Annotated[float, Field(gt=0.0, le=1.0)] | None = 0.0175
    take_profit_atr: Positive | None = None
    """Off by default. Every stop is switched off by ``"off"``, in JSON also by null; so are the drawdown steps."""
    time_stop_h: Positive | None = 24.0
    drawdown_steps: tuple[DrawdownStep, ...] = (
        DrawdownStep(drawdown_frac=0.05, scale_frac=0.5),
        DrawdownStep(drawdown_frac=0.10, scale_frac=0.2),
    )
    kill_switch_drawdown_frac: Annotated[float, Field(gt=0.0, le=1.0)] | None = 0.20
    block_after_stop: bool = True
    """A pair that was stopped out is not bought again before the next full rebalance."""

    @property
    def uses_atr(self) -> bool:
        """Whether any stop is measured in ATR."""
        return not (self.initial_stop_atr is None and self.trail_arm_atr is None and self.take_profit_atr is None)

    @field_validator(
        "initial_stop_atr",
        "trail_arm_atr",
        "max_position_loss_frac",
        "take_profit_atr",
        "time_stop_h",
        "kill_switch_drawdown_frac",
        mode="before",
    )
    @classmethod
    def _off(cls, value: Any) -> Any:
        """TOML has no null."""
        return None if value == "off" else value

    @field_validator("drawdown_steps", mode="before")
    @classmethod
    def _no_steps(cls, value: Any) -> Any:
        return () if value == "off" else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        steps = self.drawdown_steps
        for before, after in pairwise(steps):
            if after.drawdown_frac <= before.drawdown_frac or after.scale_frac > before.scale_frac:
                raise ValueError(f"drawdown_steps: {after.drawdown_frac:g} after {before.drawdown_frac:g} must be deeper and scale more")
        return self


class HorizonWeights(Section):
    """How much each forecast horizon counts in a regime."""

    w_6h: Frac
    w_24h: Frac

    @model_validator(mode="after")
    def _check(self) -> Self:
        if abs(self.w_6h + self.w_24h - 1.0) > 1e-9:
            raise ValueError(f"w_6h + w_24h is {self.w_6h + self.w_24h:g}, must be 1")
        return self


class StrategySection(Section):
    """What every strategy's section has."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models that the section names: what the desk uses of them, it trains."""
        return ()


class RotationSection(StrategySection):
    """The ``rotation`` strategy: regime, ensemble, scores."""

    market_base: str = "BTC"
    """The base asset whose bars decide the regime."""
    model_6h: str = "rotation_6h"
    model_24h: str = "rotation_24h"
    weights_trend: HorizonWeights = HorizonWeights(w_6h=0.3, w_24h=0.7)
    weights_chop: HorizonWeights = HorizonWeights(w_6h=0.6, w_24h=0.4)
    weights_down: HorizonWeights = HorizonWeights(w_6h=0.3, w_24h=0.7)
    score_threshold_frac: Number = 0.0
    """What the models must expect a pair to beat the average pair by, after the cost of a round trip."""
    fallback_threshold_frac: Number = 0.03
    fallback_return_weight: Number = 0.5
    fallback_rsi_weight: Number = 0.3
    ema_fast_bars: int = Field(default=50, ge=2, le=500)
    ema_slow_bars: int = Field(default=200, ge=3, le=1000)
    slope_bars: int = Field(default=4, ge=1, le=100)
    volatility_high_ann_frac: Positive = 0.8
    volatility_mid_ann_frac: Positive = 0.4

    @property
    def models(self) -> tuple[str, ...]:
        """See ``StrategySection.models``."""
        return tuple(dict.fromkeys((self.model_6h, self.model_24h)))

    def horizon_weights(self, regime: str) -> HorizonWeights:
        """The weights for ``regime``."""
        weights: HorizonWeights = getattr(self, f"weights_{regime}")
        return weights

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.ema_fast_bars >= self.ema_slow_bars:
            raise ValueError(f"ema_fast_bars: {self.ema_fast_bars} must be smaller than ema_slow_bars ({self.ema_slow_bars})")
        if self.volatility_mid_ann_frac >= self.volatility_high_ann_frac:
            raise ValueError(f"volatility_mid_ann_frac: {self.volatility_mid_ann_frac:g} must be smaller than volatility_high_ann_frac")
        return self


class ScanSection(StrategySection):
    """What every strategy has that looks for setups by itself, on a schedule of its own."""

    scan_every_min: Literal[1, 5, 15] = 15
    """How often the strategy is scanned; a multiple of ``desk.timeframe``."""
    every_close: ClassVar[bool] = False
    """Whether the strategy has to be scanned at each close of ``desk.timeframe``: it looks for what has changed since the one before."""


class CrossoverSection(ScanSection):
    """The ``crossover`` strategy: two simple moving averages a pair."""

    every_close: ClassVar[bool] = True

    fast_bars: int = Field(default=20, ge=1, le=2000)
    """Closes of ``desk.timeframe`` in the fast average."""
    slow_bars: int = Field(default=100, ge=2, le=2000)
    stake: Positive = 1000.0
    """What one trade is worth at its decision, in the stake currency: quantity = stake / last close."""
    setup_model: str = Field(default="", pattern=r"^$|^[a-z][a-z0-9_]{0,47}$")
    """A model of its set-ups that is trained every night, and measured; empty: none. Entries do not ask it."""

    @property
    def models(self) -> tuple[str, ...]:
        """See ``StrategySection.models``."""
        return (self.setup_model,) if self.setup_model else ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fast_bars >= self.slow_bars:
            raise ValueError(f"fast_bars: {self.fast_bars} must be smaller than slow_bars ({self.slow_bars})")
        return self


class TrainingSection(Section):
    """How models are retrained, and what they must prove."""

    window_days: int = Field(default=90, ge=2, le=730)
    min_window_days: int = Field(default=14, ge=2, le=730)
    """With less history than this nothing is trained."""
    sample_every_min: Literal[15, 30, 60, 120, 240] = 60
    validation_frac: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.2
    effective_delay_min: int = Field(default=20, ge=0, le=1440)
    """A model may be used this long after the scheduled time of the retraining that made it."""
    min_rank_ic: Number = 0.0
    """Of this and the gate in the model's ``spec.toml`` the stricter applies."""
    min_rank_ic_t: Number = 2.5
    """Of this and the gate in the model's ``spec.toml`` the stricter applies."""
    max_model_age_days: float = Field(default=30.0, gt=0.0, le=365.0)
    """An older champion is not used; the strategy falls back."""
    promotion: Literal["shadow", "direct"] = "shadow"
    """What becomes of a version that has passed its gates while there is a champion: it proves itself in shadow, or takes over at once."""
    shadow_min_periods: int = Field(default=10, ge=5, le=500)
    """So many horizons that share nothing must have been forecast before anybody is promoted or rolled back."""
    shadow_min_t: Number = 1.0
    """How surely a challenger must be better than the champion on the same ticks, in standard errors."""
    shadow_deadline_days: Positive = 21.0
    """A challenger that is no champion by then is retired; never less than its evidence takes to come in."""
    max_shadows: int = Field(default=2, ge=1, le=20)
    """Challengers of a model at a time."""
    watch_days: Positive = 14.0
    """How long a former champion goes on in shadow; never less than the evidence against the new one takes to come in."""
    rollback_t: Positive = 2.0
    """The former champion takes its place again when the new one is worse by so many standard errors."""
    keep_versions: int = Field(default=30, ge=2, le=1000)
    """Versions of a model that are kept; what is in use, and the champion before, in any case."""
    num_threads: int = Field(default=2, ge=1, le=64)
    seed: int = Field(default=42, ge=0)
    runs_on: Literal["lambda", "sagemaker"] = "lambda"
    """Where the nightly state machine fits models: in the ``retrain`` function, or in a SageMaker training job each."""
    image: str = Field(default="", pattern=r"^$|^[a-z0-9][A-Za-z0-9._/:@-]{2,254}$")
    """URI of the container image of a SageMaker training job; deployed with the desk, as the next three are."""
    instance_type: str = Field(default="ml.m5.large", pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")
    spot: bool = True
    """Train on spare capacity, which is cheaper and may have to be waited for."""
    max_runtime_s: int = Field(default=3600, ge=60, le=7200)
    """A training job that takes longer is stopped; one on spare capacity may take twice as long, waiting included."""

    @model_validator(mode="after")
    def _needs_an_image(self) -> Self:
        if self.runs_on == "sagemaker" and not self.image:
            raise ValueError("image: missing; runs_on = 'sagemaker' needs the URI of a container image")
        return self


class AlertsSection(Section):
    """When people are told."""

    drawdown_alarm_frac: Frac = 0.10
    email: str = Field(default="", pattern=r"^$|^[^@\s]+@[^@\s]+\.[^@\s]+$")
    """Subscribed to the alert topic; empty = nobody."""
