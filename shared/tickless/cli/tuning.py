"""``tickless tune``: look for better hyper-parameters within a time budget, and say how much of what was found is luck."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tickless.cli.desk_models import chosen_specs, load_market_of
from tickless.cli.options import Data, Desk, Json, Overrides, Timerange, check_out_file, parse_timerange, progress_bar
from tickless.cli.printing import note, print_json

if TYPE_CHECKING:
    from tickless.learn.study import StudyResult
    from tickless.learn.tuning import Attempt, Luck, TuningData


def tune(
    data: Data,
    timerange: Timerange,
    model: Annotated[str, typer.Option("--model", help="The model whose hyper-parameters are sought.")],
    study: Annotated[Path, typer.Option("--study", help="The study's file: made if it is not there, gone on with if it is.")],
    budget: Annotated[str, typer.Option("--budget", help="Time to spend, as 90s, 10m or 2h; the trial that is running ends.")] = "10m",
    trials: Annotated[int | None, typer.Option("--trials", min=0, max=100_000, help="At most so many trials this time.")] = None,
    objective: Annotated[
        Literal["rank_ic", "net"], typer.Option("--objective", help="Mean rank IC out of fold, or net return of the best pairs.")
    ] = "rank_ic",
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the best specification goes; without it, beside the study as .toml.")
    ] = None,
    desk: Desk = "rotation",
    set_: Overrides = None,
    json_: Json = False,
) -> None:
    """Try hyper-parameters on walk-forward folds that end before the validation slice; write the best as a spec.toml to copy.

    Every trial counts, over every time that the study is gone on with: the best one's deflated Sharpe ratio and the probability of
    overfitting say how much of it is luck. The last training.validation_frac of the timerange is not looked at.

    Example: tickless tune --model rotation_6h --data data/ --timerange 20240101-20240901 --budget 10m --study out/6h.journal
    """
    from tickless.errors import TicklessError
    from tickless.learn.study import best_attempt, has_optuna, run_study
    from tickless.learn.tuning import judge_luck

    seconds = _seconds(budget)
    target = out or study.with_suffix(".toml")
    check_out_file(study, "--study")
    check_out_file(target)
    if not has_optuna():
        raise TicklessError("Optuna is not installed here, and tune needs it: install tickless[research]")
    prepared = _prepare(data, timerange, desk, model, set_ or [])
    began = time.monotonic()

    def go_on(done: int) -> bool:
        return (trials is None or done < trials) and time.monotonic() - began < seconds

    with progress_bar("seconds") as advance:
        found = run_study(study, prepared, objective, go_on, lambda _done: advance(min(round(seconds), _since(began)), round(seconds)))
    best = best_attempt(found, prepared)
    luck = judge_luck(best, found.returns, found.failed, prepared)
    content = _facts(found, best, luck, prepared, objective, (study, target))
    _write(target, found, luck, content)
    _print(content, json_=json_)


def _since(began: float) -> int:
    return round(time.monotonic() - began)


def _seconds(text: str) -> float:
    from tickless.errors import InputError

    found = re.fullmatch(r"(\d{1,6})([smh])", text)
    seconds = int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0
    if not 0 < seconds <= 7 * 86_400:
        raise InputError(f"--budget {text}: must be seconds, minutes or hours from 1s to 168h, as 90s, 10m or 2h")
    return float(seconds)


def _prepare(data: Path, timerange: str, desk: str, model: str, overrides: list[str]) -> TuningData:
    """Load, check and cut; bad input is refused before the first trial."""
    from tickless.learn.challenge import Terms
    from tickless.learn.scope import Scope
    from tickless.learn.training_run import Features
    from tickless.learn.tuning import prepare_tuning
    from tickless.settings import load_desk

    start, end = parse_timerange(timerange)
    settings = load_desk(desk, overrides)
    (spec,) = specs = chosen_specs(settings, desk, [model])
    job = load_market_of(settings, specs, data, start, end)
    panel = job.market.bars(job.pairs, settings.desk.timeframe, start, end)
    top_k = settings.portfolio.top_k.chop
    terms = Terms(settings.training, settings.execution, top_k, end, end, panel.step_ms, spec, Scope.of(settings))
    features = Features.of_rotation(panel.timeframe, settings.universe.max_gap_bars)
    return prepare_tuning(features.make(panel), panel, terms, features)


def _facts(found: StudyResult, best: Attempt, luck: Luck, data: TuningData, objective: str, paths: tuple[Path, Path]) -> dict[str, Any]:
    import math

    from tickless.types import from_ms, iso

    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "model": found.best.name,
        "objective": objective,
        "trials": luck.tried.count,
        "tried_now": found.tried_now,
        "failed": found.failed,
        "best_trial": found.best_number,
        "best_value": found.best_value,
        "value_before": known(found.first_value),
        "fit": found.best.fit.model_dump(mode="json"),
        "deflated_sharpe": luck.tried.deflated_sharpe,
        "overfitting_probability": luck.tried.overfitting,
        "would_pass_gates": luck.gate.promote,
        "gate": list(luck.gate.reasons),
        "folds": len(data.folds),
        "holdout_from": iso(from_ms(data.holdout_from_ms)),
        "measures": best.score.measures.as_json(),
        "study": str(paths[0]),
        "spec": str(paths[1]),
    }


def statement(content: dict[str, Any]) -> str:
    """What was found and what it is worth, in lines for people; also the head of the specification that is written."""

    def number(value: float | None, digits: int = 4) -> str:
        return "unknown" if value is None else f"{value:.{digits}f}"

    chance, luck = content["deflated_sharpe"], content["overfitting_probability"]
    before = number(content["value_before"])
    model, count, folds = content["model"], content["trials"], content["folds"]
    gate = "It would pass its gates." if content["would_pass_gates"] else f"It would not pass its gates: {content['gate'][0]}."
    lines = (
        f"{model}: the best of {count} trials, by {content['objective']} over {folds} walk-forward folds.",
        f"It reached {number(content['best_value'])}, the specification as it was {before}.",
        "The best of many tries looks better than it is.",
        f"The chance that it is more than the luck of {count} tries: {number(chance, 2)} (deflated Sharpe ratio; 0.95 is asked).",
        f"The probability that choosing among them was overfitting: {number(luck, 2)} (below 0.5 is asked).",
        gate,
        f"Nothing from {content['holdout_from']} on was looked at: train on the whole timerange, and let that slice judge, once.",
    )
    return "\n".join(lines)


def _write(target: Path, found: StudyResult, luck: Luck, content: dict[str, Any]) -> None:
    from tickless.errors import InputError
    from tickless.learn.spec_text import with_fit_values
    from tickless.settings import models_folder

    text = (models_folder() / found.best.name / "spec.toml").read_text("utf-8")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(with_fit_values(text, found.best.model_copy(update={"trials": luck.tried}), statement(content)), "utf-8")
    except OSError as error:
        raise InputError(f"--out {target}: cannot be written ({error.strerror or error})") from error


def _print(content: dict[str, Any], *, json_: bool) -> None:
    if json_:
        print_json(content)
        return
    typer.echo(statement(content))
    typer.echo(f"The best specification is {content['spec']}; copy it to models/{content['model']}/spec.toml")
    note(f"{content['study']}: {content['tried_now']} trials now, {content['trials']} in all; the same command goes on with it")
