"""The desk file: parsed once, split into sections, one SSM parameter ``/tickless/<stage>/<section>`` each."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails

from tickless.errors import SettingsError
from tickless.settings.exchanges import BUYS_BY_VALUE
from tickless.settings.near_names import did_you_mean
from tickless.settings.schedule import Calendar, ScheduleSection
from tickless.settings.sections import (
    AlertsSection,
    CrossoverSection,
    DeskSection,
    ExecutionSection,
    PortfolioSection,
    RiskSection,
    RotationSection,
    ScanSection,
    Section,
    StrategySection,
    TrainingSection,
    UniverseSection,
)
from tickless.types import TIMEFRAME_MINUTES

MAX_SECTION_BYTES = 4096
"""The limit of a standard SSM parameter."""

LEAST_LIVE_LEASE_S = 120
"""The shortest lease of a desk that trades a real account: its last part is kept free of orders (``runs.desk_tick``)."""

MAX_DEPTH = 8
"""Tables within tables of a desk file; none of ours lies deeper than four."""

STRATEGY_SECTIONS: Mapping[str, type[Section]] = {"crossover": CrossoverSection, "rotation": RotationSection}
"""The settings of every strategy the desk knows; a new strategy adds itself here."""

_PLAIN_SECTIONS: Mapping[str, type[Section]] = {
    "desk": DeskSection,
    "universe": UniverseSection,
    "schedule": ScheduleSection,
    "execution": ExecutionSection,
    "portfolio": PortfolioSection,
    "risk": RiskSection,
    "training": TrainingSection,
    "alerts": AlertsSection,
}


class Settings(Section):
    """All sections of one desk."""

    desk: DeskSection = DeskSection()
    universe: UniverseSection = UniverseSection()
    schedule: ScheduleSection = ScheduleSection()
    execution: ExecutionSection = ExecutionSection()
    portfolio: PortfolioSection = PortfolioSection()
    risk: RiskSection = RiskSection()
    training: TrainingSection = TrainingSection()
    alerts: AlertsSection = AlertsSection()
    strategy: Mapping[str, Section] = Field(default_factory=dict)

    @field_validator("strategy", mode="before")
    @classmethod
    def _strategies(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("must be a table of strategies")
        for name in value:
            if name not in STRATEGY_SECTIONS:
                raise ValueError(f"unknown strategy {name!r}; known: {', '.join(sorted(STRATEGY_SECTIONS))}")
        return {name: _strategy(name, value[name]) for name in sorted(value)}

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        bar_min, check_min = TIMEFRAME_MINUTES[self.desk.timeframe], self.schedule.risk_check_every_min
        if check_min % bar_min:
            raise ValueError(f"schedule.risk_check_every_min: {check_min} is not a multiple of desk.timeframe {self.desk.timeframe!r}")
        for name, every in self.calendar.scans:
            section, timeframe = self.strategy[name], self.desk.timeframe
            if every > bar_min and isinstance(section, ScanSection) and section.every_close:
                raise ValueError(f"strategy.{name}.scan_every_min: {every} misses closes of desk.timeframe {timeframe!r}: it looks at each")
            if every % bar_min:
                raise ValueError(f"strategy.{name}.scan_every_min: {every} is not a multiple of desk.timeframe {self.desk.timeframe!r}")
        self._refuse_simulated_settings_of_a_real_account()
        bar_s, latency_s = 60 * bar_min, self.execution.latency_s
        first_chance_s = math.ceil(latency_s / bar_s) * bar_s
        if latency_s > 0.0 and self.execution.unfilled_timeout_s <= first_chance_s:
            raise ValueError(
                f"execution.unfilled_timeout_s: {self.execution.unfilled_timeout_s} ends before the first bar that an order with "
                f"execution.latency_s = {latency_s:g} can fill at, {first_chance_s} s after the tick"
            )
        return self

    def _refuse_simulated_settings_of_a_real_account(self) -> None:
        """Raise ValueError for what is harmless in simulation and not with a real account."""
        if self.desk.mode != "live":
            return
        if not self.execution.filters:
            raise ValueError(
                "execution.filters: false is for simulation; with desk.mode = 'live' it must be true, as an exchange refuses orders that "
                "are not on its steps"
            )
        if self.schedule.lease_ttl_s < LEAST_LIVE_LEASE_S:
            raise ValueError(
                f"schedule.lease_ttl_s: {self.schedule.lease_ttl_s} is for simulation; with desk.mode = 'live' it must be at least "
                f"{LEAST_LIVE_LEASE_S}, so that no order is on its way any more when another tick takes an abandoned lease"
            )

        self._refuse_market_buys_by_value()

    def _refuse_market_buys_by_value(self) -> None:
        """Raise ValueError for market buys at an exchange that takes them by what they may cost, where each would be refused."""
        desk = self.desk
        if desk.exchange in BUYS_BY_VALUE and desk.market_type == "spot" and self.execution.order_type == "market":
            raise ValueError(
                f"execution.order_type: 'market' would buy nothing: {desk.exchange} takes market buys by their cost, which can buy more "
                "than was planned, so none is sent; with desk.mode = 'live' it must be 'limit'"
            )

    @property
    def rotation(self) -> RotationSection:
        """The section of the rotation strategy; raises SettingsError where the desk does not run it."""
        section = self.strategy.get("rotation")
        if not isinstance(section, RotationSection):
            raise SettingsError("strategy.rotation: this desk does not run the rotation strategy")
        return section

    @property
    def crossover(self) -> CrossoverSection:
        """The section of the crossover strategy; raises SettingsError where the desk does not run it."""
        section = self.strategy.get("crossover")
        if not isinstance(section, CrossoverSection):
            raise SettingsError("strategy.crossover: this desk does not run the crossover strategy")
        return section

    @cached_property
    def models(self) -> Mapping[str, tuple[str, ...]]:
        """The models that each strategy names, by strategy; one that names none is not among them. All that trains asks this."""
        named = {name: section.models for name, section in self.strategy.items() if isinstance(section, StrategySection)}
        return {name: models for name, models in named.items() if models}

    @cached_property
    def calendar(self) -> Calendar:
        """When the desk's ticks are due."""
        scans = ((name, section.scan_every_min) for name, section in self.strategy.items() if isinstance(section, ScanSection))
        rebalanced = next((name for name, section in sorted(self.strategy.items()) if not isinstance(section, ScanSection)), "")
        return Calendar(self.schedule, rebalanced, tuple(sorted(scans)), bool(self.models or rebalanced))

    def sections(self) -> dict[str, str]:
        """Each section as the canonical JSON text that its SSM parameter holds, by section name."""
        named: dict[str, Section] = {name: getattr(self, name) for name in _PLAIN_SECTIONS}
        named |= {f"strategy.{name}": section for name, section in self.strategy.items()}
        return {name: section_text(section) for name, section in named.items()}

    @cached_property
    def _sha256(self) -> str:
        text = json.dumps(self.sections(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def sha256(self) -> str:
        """The hash of all sections: two desks with the same hash decide alike."""
        return self._sha256


def _strategy(name: str, value: Any) -> Section:
    """Validate one strategy's table, so that its errors carry the strategy's name in their path."""
    try:
        return STRATEGY_SECTIONS[name].model_validate(value)
    except ValidationError as error:
        lines = [
            InitErrorDetails(type=line["type"], loc=(name, *line["loc"]), input=line["input"], ctx=line.get("ctx", {}))
            for line in error.errors(include_url=False)
        ]
        raise ValidationError.from_exception_data(error.title, lines) from None


def section_text(section: Section) -> str:
    """Canonical JSON of a section: sorted keys, no blanks."""
    return json.dumps(section.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def section_type(name: str) -> type[Section]:
    """The model of a section by its name (``risk``, ``strategy.rotation``); raises SettingsError for an unknown one."""
    if name in _PLAIN_SECTIONS:
        return _PLAIN_SECTIONS[name]
    kind, _, strategy = name.partition(".")
    if kind == "strategy" and strategy in STRATEGY_SECTIONS:
        return STRATEGY_SECTIONS[strategy]
    raise SettingsError(f"{name}: unknown section; known: {', '.join([*_PLAIN_SECTIONS, *(f'strategy.{s}' for s in STRATEGY_SECTIONS)])}")


def parse_section(name: str, text: str, source: str = "parameter") -> Section:
    """Parse one section's JSON; raises SettingsError naming the source, the key's path and the value."""
    _check_size(name, text, source)
    model = section_type(name)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{source} {name}: not JSON ({error})") from error
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise SettingsError(f"{source} {explain(error, prefix=name)}") from error


def _check_size(name: str, text: str, source: str) -> None:
    size = len(text.encode())
    if size > MAX_SECTION_BYTES:
        raise SettingsError(f"{source} {name}: {size} bytes as JSON, at most {MAX_SECTION_BYTES}")


def build_settings(sections: Mapping[str, Section]) -> Settings:
    """Settings from parsed sections, by section name. Raises SettingsError where they do not fit together, or hold no strategy."""
    values: dict[str, Any] = {name: section for name, section in sections.items() if "." not in name}
    values["strategy"] = {name.partition(".")[2]: section for name, section in sections.items() if "." in name}
    if not values["strategy"]:
        raise SettingsError(f"strategy: the desk runs none; it needs one of {', '.join(f'strategy.{name}' for name in STRATEGY_SECTIONS)}")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(explain(error)) from error


def _given_twice(message: str, text: str) -> str:
    """The key that a TOML text gives a second time, and where; empty for what else is wrong. The parser names the place alone."""
    if not message.startswith("Cannot overwrite a value"):
        return ""
    lines = text.rstrip().splitlines()
    found = re.search(r"at line (\d+)", message)
    number = int(found[1]) if found else len(lines)
    key = re.match(r"\s*([A-Za-z0-9_.-]+)\s*=", lines[number - 1])
    return f"{key[1]} is given twice, the second time at line {number}" if key else ""


def load_desk(desk: str, overrides: Iterable[str] = ()) -> Settings:
    """Load a desk file (a built-in name or a path), apply ``section.key=value`` overrides, validate.

    Raises SettingsError naming the file, the key's path and the value; a section that would not fit into its parameter is refused too, and
    so is a desk without a strategy.
    """
    text, source = read_desk(desk)
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{source}: not TOML ({_given_twice(str(error), text) or error})") from error
    for override in overrides:
        _apply_override(values, override)
        source += f" --set {override}"
    _check_depth(values, source)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{source}: {explain(error)}") from error
    for name, section in settings.sections().items():
        _check_size(name, section, f"{source}:")
    if not settings.strategy:
        raise SettingsError(f"{source}: strategy: the desk runs none; add a section such as [strategy.{min(STRATEGY_SECTIONS)}]")
    return settings


def builtin_desks() -> tuple[str, ...]:
    """The names of the desks that ship with the package."""
    files = resources.files("tickless").joinpath("desks").iterdir()
    return tuple(sorted(Path(str(f)).stem for f in files if str(f).endswith(".toml")))


def read_desk(desk: str) -> tuple[str, str]:
    """The text of a desk file, and what to call it in messages; raises SettingsError where there is none."""
    if desk in builtin_desks():
        return resources.files("tickless").joinpath("desks", f"{desk}.toml").read_text("utf8"), f"desk {desk}"
    path = Path(desk)
    if not path.is_file():
        raise SettingsError(f"desk {desk}: neither a built-in desk ({', '.join(builtin_desks())}) nor a file")
    try:
        # Some editors begin a file with a byte order mark.
        return path.read_text("utf-8-sig"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error})") from error


def _apply_override(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    *tables, key = path.strip().split(".")
    if not equals or not tables or not key:
        raise SettingsError(f"--set {override}: must be section.key=value")
    if tables[0] in STRATEGY_SECTIONS:
        raise SettingsError(f"--set {override}: {tables[0]} is a strategy; did you mean strategy.{path.strip()}")
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = text
    except RecursionError as error:
        raise SettingsError(f"--set {override[:80]}: nested too deep") from error
    node = values
    for table in tables:
        node = node.setdefault(table, {})
        if not isinstance(node, dict):
            raise SettingsError(f"--set {override}: {table} is not a section")
    node[key] = value


def _check_depth(values: Any, source: str) -> None:
    """A dotted key may be as long as one likes, and whatever walks down its tables would run out of stack."""
    level = [values]
    for _ in range(MAX_DEPTH):
        level = [item for node in level for item in (node.values() if isinstance(node, dict) else node) if isinstance(item, dict | list)]
        if not level:
            return
    raise SettingsError(f"{source[:200]}: tables or lists nested more than {MAX_DEPTH} deep")


_PROBLEMS: Mapping[str, str] = {
    "extra_forbidden": "unknown key",
    "missing": "missing key",
    "model_type": "must be a table",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
}
"""The problems that pydantic names in Python's words rather than a desk file's."""


def _list_text(text: str) -> str:
    """What was probably meant by a text where a list must be, as JSON: a shell takes the quotes off ``["BTC/USDT"]``."""
    parts = [part.strip(" \"'") for part in text.strip().removeprefix("[").removesuffix("]").split(",")]
    return json.dumps([int(part) if part.isdecimal() else part for part in parts if part])


def explain(error: ValidationError, prefix: str = "") -> str:
    """One sentence for the first of pydantic's errors: key path, what is wrong, value."""
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in ((prefix,) if prefix else ()) + tuple(first["loc"]))
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "value_error":
        # A validator of a whole section knows which key it means, and says so first.
        joint = "." if re.match(r"[a-z0-9_]+: ", message) else ": "
        return f"{path}{joint}{message}" if path else message
    problem = _PROBLEMS.get(first["type"]) or message[:1].lower() + message[1:]
    value = first["input"]
    if first["type"] == "tuple_type" and isinstance(value, str):
        problem += f" such as '{_list_text(value)}'"
    shown = repr(list(value) if isinstance(value, tuple) else value)
    meant = _meant_key(path.split(".")) if first["type"] == "extra_forbidden" else ""
    return f"{path}{': ' if path else ''}{problem} (got {shown if len(shown) <= 80 else shown[:77] + '...'}){meant}"


def _meant_key(path: Sequence[str]) -> str:
    """What to say of the key that was probably meant by the last of an unknown key's path; empty where none is like it."""
    model: Any = Settings
    for name in path[:-1]:
        if model is Settings and name == "strategy":
            model = STRATEGY_SECTIONS
        elif isinstance(model, Mapping):
            model = model.get(name)
        elif not name.isdecimal():
            field = model.model_fields.get(name)
            model = _section_within(field.annotation) if field is not None else None
        if model is None:
            return ""
    return did_you_mean(path[-1], model if isinstance(model, Mapping) else model.model_fields)


def _section_within(annotation: Any) -> type[Section] | None:
    """The section that a field holds, by itself or in a list; None where it holds plain values."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_within(part))), None)
