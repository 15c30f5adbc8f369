"""``tickless walk-forward``: train again and again on what lies behind, test on what comes next, and let the desk trade on it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tickless.cli.desk_models import ModelJob, Models, chosen_specs, load_market_of
from tickless.cli.options import (
    PATH,
    Advance,
    Data,
    Desk,
    Json,
    Out,
    Overrides,
    Timerange,
    check_out,
    parse_timerange,
    path_of,
    progress_bar,
)
from tickless.cli.printing import note, percent, print_json, print_table

if TYPE_CHECKING:
    from tickless.backtest.walk_results import WalkRecord
    from tickless.learn.spec import ModelSpec
    from tickless.learn.walk_forward import ModelWalk
    from tickless.settings import Settings

Every = Annotated[str | None, typer.Option("--every", help="Time between two trainings, as 7d or 12h; without it, the specification's.")]
Window = Annotated[
    Literal["expanding", "sliding"] | None, typer.Option("--window", help="Train on all that lies behind, or on the window only.")
]
_WORKERS = 2


def walk_forward(
    data: Data,
    timerange: Timerange,
    out: Out,
    desk: Desk = "rotation",
    model: Models = None,
    every: Every = None,
    window: Window = None,
    models_only: Annotated[bool, typer.Option("--models-only", help="Measure the models; leave the desk's backtests out.")] = False,
    models: Annotated[
        Path | None, typer.Option("--models", parser=path_of, metavar=PATH, help="Also register the folds' versions here, in a new folder.")
    ] = None,
    set_: Overrides = None,
    json_: Json = False,
) -> None:
    """Retrain the desk's models over history, test each version on the time after it, and backtest the desk on these versions.

    The first fold begins in the timerange as soon as training.min_window_days of samples lie before it.

    Example: tickless walk-forward --desk rotation --data data/ --timerange 20240101-20240901 --out out/walk
    """
    from tickless.adapters.folder_models import FolderModelStore
    from tickless.adapters.memory_models import MemoryModelStore
    from tickless.backtest.models_page import write_models_page
    from tickless.backtest.results import write_files
    from tickless.backtest.walk_desk import fill_store
    from tickless.backtest.walk_results import facts, files
    from tickless.settings import load_desk

    began = time.monotonic()
    start, end = parse_timerange(timerange)
    check_out(out)
    settings = load_desk(desk, set_ or ())
    specs = chosen_specs(settings, desk, model)
    job = _prepare(data, settings, specs, (start, end), every, window, models, models_only=models_only)
    with progress_bar("folds") as advance:
        walks = _walk(job, advance)
    record = replace(_record(job, walks), seconds={"models": time.monotonic() - began})
    store = MemoryModelStore()
    fill_store(walks, store, job.market.panel.step_ms)
    if models is not None:
        store.copy_to(FolderModelStore(models))
    if not models_only:
        record = _with_desk(record, job, store, out, began)
    record = replace(record, seconds={**record.seconds, "all": time.monotonic() - began})
    write_files(out, files(record))
    page = write_models_page(record, out)
    _print(facts(record), page, record.not_asked, json_=json_)


@dataclass(frozen=True)
class _Job(ModelJob):
    every: timedelta
    sliding: bool


def _prepare(
    data: Path,
    settings: Settings,
    specs: tuple[ModelSpec, ...],
    span: tuple[datetime, datetime],
    every: str | None,
    window: str | None,
    models: Path | None,
    *,
    models_only: bool,
) -> _Job:
    """Everything that can be wrong is refused here, before anything runs."""
    from tickless.errors import InputError

    if not models_only and not {spec.name for spec in specs} & {name for names in settings.models.values() for name in names}:
        raise InputError(
            f"--model {', '.join(spec.name for spec in specs)}: the desk's settings do not name it, so its backtests would not use it; "
            "add --models-only, or name it with --set"
        )
    length = _every(every, specs)
    limit = settings.training.max_model_age_days
    if not models_only and length > timedelta(days=limit):
        raise InputError(
            f"--every {every or f'{length.days}d'}: the desk refuses a version older than training.max_model_age_days = {limit:g}; "
            "raise it with --set, or add --models-only"
        )
    if models is not None:
        check_out(models, "--models", "the models")
        if models.exists() and any(models.iterdir()):
            raise InputError(f"--models {models}: is not empty; versions of a walk-forward need a folder of their own")
    job = load_market_of(settings, specs, data, *span)
    sliding = (window or specs[0].folds.window) == "sliding"
    return _Job(settings, specs, job.market, job.pairs, *span, length, sliding)


def _every(text: str | None, specs: tuple[ModelSpec, ...]) -> timedelta:
    from tickless.errors import InputError

    if text is None:
        days = {spec.folds.test_days for spec in specs}
        if len(days) > 1:
            raise InputError(f"--every: the models' folds.test_days differ ({', '.join(f'{n:g}' for n in sorted(days))}); name one")
        return timedelta(days=days.pop())
    found = re.fullmatch(r"(\d{1,4})([dh])", text)
    length = timedelta(**{"days" if found[2] == "d" else "hours": int(found[1])}) if found else timedelta(0)
    if not timedelta(hours=1) <= length <= timedelta(days=365):
        raise InputError(f"--every {text}: must be days or hours from 1h to 365d, as 7d or 12h")
    return length


def _walk(job: _Job, advance: Advance) -> tuple[ModelWalk, ...]:
    from tickless.learn.scope import Scope
    from tickless.learn.training_run import Features
    from tickless.learn.walk_forward import WalkPlan, walk_models
    from tickless.runs.retrain import training_start

    settings, market = job.settings, job.market
    first = max(training_start(settings, job.start, job.specs), market.panel.start) if job.sliding else market.panel.start
    panel = market.bars(job.pairs, settings.desk.timeframe, first, job.end)

    features = Features.of_rotation(panel.timeframe, settings.universe.max_gap_bars)
    return walk_models(
        features.make(panel),
        panel,
        training=settings.training,
        execution=settings.execution,
        top_k=settings.portfolio.top_k.chop,
        specs=job.specs,
        plan=WalkPlan(job.start, job.every // timedelta(milliseconds=1), job.sliding, _WORKERS),
        features=features,
        scope=Scope.of(settings),
        progress=advance,
    )


def _record(job: _Job, walks: tuple[ModelWalk, ...]) -> WalkRecord:
    from tickless.adapters.bar_files import data_sha256
    from tickless.backtest.walk_results import WalkRecord
    from tickless.errors import TicklessError

    untested = {walk.spec.name: walk.folds[-1].skipped if walk.folds else "there is no fold" for walk in walks if not walk.tested}
    if untested:
        raise TicklessError("; ".join(f"{name}: no version was trained: {why}" for name, why in untested.items()))
    days, panel = job.every / timedelta(days=1), job.market.panel
    return WalkRecord(
        job.settings, job.start, job.end, job.pairs, days, job.sliding, data_sha256(panel.between(panel.start, job.end)), walks
    )


def _with_desk(record: WalkRecord, job: _Job, store: Any, out: Path, began: float) -> WalkRecord:
    """The desk's two runs; the one with models leaves the result folder's files."""
    from tickless.backtest.report import write_report
    from tickless.backtest.results import summarize, write_results
    from tickless.backtest.walk_desk import compare_runs, run_desk

    text = f"Walk-forward: every {record.every_days:g} days new versions, trained on what lay behind; used whatever their gates would say."
    with _bars() as bar:
        runs = run_desk(job.settings, job.market, record.tested[0], job.end, store, bar, text)
    seconds = time.monotonic() - began
    runs = replace(runs, models=replace(runs.models, seconds=round(seconds, 3)))
    summary = write_results(runs.models, out)
    write_report(runs.models, summary, out)
    desk = compare_runs(runs, summary, summarize(runs.fallback, orders_sha256=""))
    return replace(record, desk=desk, runs=runs, seconds={**record.seconds, "desk": seconds - record.seconds["models"]})


@contextmanager
def _bars() -> Iterator[Callable[[str], Advance]]:
    """A progress bar after another, each as long as its run."""
    with ExitStack() as stack:

        def next_bar(what: str) -> Advance:
            stack.close()
            return stack.enter_context(progress_bar(what))

        yield next_bar


def _print(content: dict[str, Any], page: Path, not_asked: str, *, json_: bool) -> None:
    if json_:
        print_json(content)
        return
    columns = ("model", "folds", "rank IC", "95 %", "t", "linear's", "hit rate", "to beat", "net a rebalance", "gates")
    rows = [_model_row(model) for model in content["models"]]
    print_table("out of fold", columns, rows, right=columns[1:-1])
    classifiers = [_class_row(model) for model in content["models"] if "classes" in model["out_of_fold"]]
    if classifiers:
        heads = ("model", "rows", "log loss", "base rate's", "t of what it saves", "linear's", "AUC", "linear's AUC")
        print_table("as a classifier; chance has an AUC of 0.5", heads, classifiers, right=heads[1:])
    if content["strategy"] is not None:
        strategy = content["strategy"]
        names = (
            ("desk with models", "with_models"),
            ("desk without models", "without_models"),
            ("equal weight", "equal_weight"),
            ("cash", "cash"),
        )
        lines = [(name, percent(strategy[key]["total_return_frac"])) for name, key in names]
        print_table(
            f"the strategy, {strategy['start'][:10]} to {strategy['end'][:10]}, after costs", ("", "return"), lines, right=("return",)
        )
    if not_asked:
        typer.echo(not_asked)
    typer.echo(f"Results in {page.parent}, the models' page is {page}")
    for model in content["models"]:
        skipped = [fold for fold in model["folds"] if "skipped" in fold]
        if skipped:
            note(f"{model['model']}: no version in {len(skipped)} of {len(model['folds'])} folds: {skipped[0]['skipped']}")


def _model_row(model: dict[str, Any]) -> tuple[str, ...]:
    mine, linear, number = model["out_of_fold"], model["linear_baseline"] or {}, _number
    return (
        model["model"],
        str(model["folds_tested"]),
        number(mine["rank_ic"]),
        "–" if mine["rank_ic_low"] is None else f"{number(mine['rank_ic_low'])} to {number(mine['rank_ic_high'])}",
        number(mine["rank_ic_t"], 2),
        number(linear.get("rank_ic")),
        number(mine["hit_rate"]),
        number(mine["hit_rate_baseline"]),
        percent(mine["top_k_net_frac"], 3) if mine["top_k_net_frac"] is not None else "–",
        "open" if model["would_pass_gates"] else "closed",
    )


def _class_row(model: dict[str, Any]) -> tuple[str, ...]:
    mine, linear = model["out_of_fold"]["classes"], (model["linear_baseline"] or {}).get("classes") or {}
    numbers = (mine["log_loss"], mine["log_loss_base"])
    return (
        model["model"],
        f"{mine['rows']:,}",
        *map(_number, numbers),
        _number(mine["skill_t"], 2),
        *map(_number, (linear.get("log_loss"), mine["auc"], linear.get("auc"))),
    )


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:z.{digits}f}"
