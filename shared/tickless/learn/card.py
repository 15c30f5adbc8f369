"""The card of a version: its manifest as a page that a person reads, every measure beside what it has to be compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tickless.errors import ArtifactError

_ALGORITHMS = {
    "lightgbm_regression": "LightGBM regression, squared error",
    "lightgbm_classification": "LightGBM classification, log loss",
    "lightgbm_ranking": "LightGBM ranking, LambdaMART on the pairs of a tick",
    "ridge": "ridge regression",
    "logistic": "logistic regression",
    "gru": "recurrent network (GRU), squared error",
}
_LABELS = {
    "forward_return_over_volatility": "the return over the horizon, in units of the pair's own volatility",
    "forward_return": "the return over the horizon",
    "forward_return_net": "the return over the horizon, less the cost of a round trip",
    "gain": "whether the return over the horizon is above the cost of a round trip",
    "triple_barrier": "whether a trade with take-profit, stop and time limit earns more than it costs",
    "setup": "whether a set-up of the strategy, filled by the desk's own rules, earns more than it costs",
}
_OUTPUTS = {
    "value": "a forecast of the label",
    "probability": "the probability that the label is above zero",
    "score": "a score that only ranks the pairs of a tick",
}
_TO_BEAT = {
    "periods": "min_periods",
    "rank_ic": "min_rank_ic",
    "rank_ic_t": "min_rank_ic_t",
    "hit_rate": "hit_rate_baseline",
    "rmse": "rmse_zero",
    "mae": "mae_zero",
    "rmse_t": "min_rank_ic_t",
    "quantile_spread_frac": "0",
    "quantile_spread_t": "2",
    "top_k_net_frac": "cash_frac",
    "top_k_net_t": "2",
    "top_k_active_frac": "0",
    "top_k_active_t": "2",
}
"""By measure, what it is compared with: a number, or the measure or the gate that holds it."""
_CLASS_TO_BEAT = {
    "log_loss": "log_loss_base",
    "brier": "brier_base",
    "auc": "0.5",
    "skill_t": "min_rank_ic_t",
    "calibration_error": "max_calibration_error",
}
Row = Sequence[str]


def render_card(manifest: Mapping[str, Any]) -> str:
    """A version's card in Markdown, from its manifest alone; what the manifest does not state is left out.

    Raises ArtifactError for a manifest that no training can have written.
    """
    who = f"{manifest.get('model', '?')}@{manifest.get('version', '?')}"
    try:
        parts = list(_parts(who, manifest))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"model {who}: manifest.json cannot be told as a card: {error!r}") from error
    return "\n\n".join(part for part in parts if part) + "\n"


def _parts(who: str, manifest: Mapping[str, Any]) -> Iterable[str]:
    return (
        f"# {who}",
        _verdict(manifest),
        _list(_what(manifest)),
        "## Measures\n\nOn the validation slice, which the version was not fitted on; forecasts as returns in units of the label's scale.",
        _measures(manifest),
        _classes(manifest),
        _linear(manifest),
        "## Made from",
        _list(_made_from(manifest)),
        "## Inputs\n\n" + ", ".join(f"`{name}`" for name in manifest.get("features", ())),
    )


def _verdict(manifest: Mapping[str, Any]) -> str:
    gate = manifest.get("gate") or {}
    if "promote" not in gate:
        return ""
    opened = "**Passed its gates.**" if gate["promote"] else "**Did not pass its gates.**"
    return f"{opened} {_sentence('; '.join(gate.get('reasons', ())))}"


def _what(manifest: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    algorithm, label, output = (manifest.get(key) for key in ("algorithm", "label", "output"))
    yield "Strategy", str(manifest.get("strategy", ""))
    yield "Algorithm", _ALGORITHMS.get(str(algorithm), str(algorithm or ""))
    relative = ", less the mean over the pairs of its tick" if manifest.get("relative") else ""
    yield "Forecasts", _LABELS.get(str(label), str(label or "")) + relative
    yield "Horizon", f"{float(manifest['horizon_h']):g} h" if "horizon_h" in manifest else ""
    yield "Output", _OUTPUTS.get(str(output), str(output or ""))
    yield "Calibrated", _calibrated(manifest.get("calibration") or {})
    yield "Chosen", _chosen((manifest.get("spec") or {}).get("trials") or {})
    if manifest.get("sequence_bars"):
        yield "Reads", f"the last {manifest['sequence_bars']} bars of each pair"
    if manifest.get("startup"):
        yield "Startup", f"{manifest['startup']['bars']} bars of {manifest['startup']['timeframe']} before its first forecast"
    yield "May be used from", str(manifest.get("effective_at", ""))


def _calibrated(calibration: Mapping[str, Any]) -> str:
    if calibration.get("method", "none") == "none":
        return ""
    how = {"platt": "a line on log-odds (Platt)", "isotonic": "a rising staircase (isotonic)"}[calibration["method"]]
    return f"by {how}, on {calibration['rows']:,} rows after those it was fitted on and before the validation"


def _chosen(trials: Mapping[str, Any]) -> str:
    if trials.get("count", 1) == 1:
        return "its specification was not chosen among trials" if trials else ""
    overfitting = trials.get("overfitting")
    beside = f", probability of overfitting {_number(overfitting)}" if overfitting is not None else ""
    deflated = _number(trials.get("deflated_sharpe"))
    return f"its specification is the best of {trials['count']:,} trials; deflated Sharpe ratio {deflated}{beside}"


def _measures(manifest: Mapping[str, Any]) -> str:
    mine = manifest.get("measures")
    if not mine:
        return ""
    names = [name for name, value in mine.items() if name not in _TO_BEAT.values() and not isinstance(value, Mapping | list)]
    return _beside("measure", names, _TO_BEAT, manifest, "measures")


def _classes(manifest: Mapping[str, Any]) -> str:
    mine = manifest.get("class_measures")
    if not mine:
        return ""
    table = _beside("as a classifier", _CLASS_TO_BEAT, _CLASS_TO_BEAT, manifest, "class_measures")
    return f"{table}\n\nThe event came in {_number(mine.get('base_rate'))} of the rows.\n\n{_curve(mine.get('curve') or ())}".rstrip()


def _beside(head: str, names: Iterable[str], to_beat: Mapping[str, str], manifest: Mapping[str, Any], key: str) -> str:
    """The named measures that stand under ``key``, each with what it has to beat, the linear baseline's and the champion's."""
    mine, limits = manifest[key], manifest.get("gates") or {}
    found = {"linear baseline": (manifest.get("baseline") or {}).get(key), "champion": manifest.get(f"champion_{key}")}
    others = {name: values for name, values in found.items() if values}
    known = {**limits, **mine}
    rows = []
    for name in names:
        stated = to_beat.get(name, "")
        with_ = _number(known[stated]) if stated in known else stated if stated[:1].isdigit() else ""
        rows.append([f"`{name}`", _number(mine.get(name)), with_, *(_number(values.get(name)) for values in others.values())])
    return _table([head, "this version", "to beat", *others], rows)


def _curve(bins: Sequence[Mapping[str, Any]]) -> str:
    """The reliability curve: a classifier that keeps its word has its forecast inside the interval."""
    if not bins:
        return ""
    rows = [
        [f"{part['forecast']:.3f}", f"{part['frequency']:.3f}", f"{part['low']:.3f} to {part['high']:.3f}", str(part["count"])]
        for part in bins
    ]
    return _table(["forecast", "came", "95 % interval", "rows"], rows)


def _linear(manifest: Mapping[str, Any]) -> str:
    baseline = manifest.get("baseline")
    if baseline is None:
        return "It is a linear model itself: there is no simpler one to compare it with." if "baseline" in manifest else ""
    sentence = _sentence(str(baseline["sentence"]))
    if baseline["beaten"]:
        return f"Against a linear model ({baseline['algorithm']}) fitted on the same rows: {sentence}"
    return f"**It does not beat a linear model** ({baseline['algorithm']}) fitted on the same rows: {sentence}"


def _made_from(manifest: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    rows = manifest.get("rows") or {}
    bars = manifest.get("bars") or {}
    sampled = " to ".join(str(manifest[key]) for key in ("data_from", "data_until") if key in manifest)
    yield "Bars", f"{bars['from']} to {bars['until']}, {bars['timeframe']}" if bars else ""
    yield "Samples" if bars else "Bars", sampled
    yield "Fitted on labels known by", str(manifest.get("fit_until", ""))
    yield "Validated from", str(manifest.get("validation_from", ""))
    yield "Rows", ", ".join(f"{name} {count:,}" for name, count in rows.items())
    yield "Pairs", str(manifest.get("pairs", ""))
    yield "Terms", _terms(manifest.get("terms") or {})
    yield "Rounds", str(manifest.get("rounds", ""))
    yield "Seed", str(manifest.get("seed", ""))
    yield "Libraries", ", ".join(f"{name} {version}" for name, version in sorted((manifest.get("libraries") or {}).items()))
    yield "Platform", ", ".join(f"{name} {word}" for name, word in sorted((manifest.get("platform") or {}).items()))
    if "export_difference" in manifest:
        yield "Largest difference of the artifact to its trainer", f"{manifest['export_difference']:.1e}"
    yield "Data", ", ".join(f"{name} sha256 `{digest}`" for name, digest in sorted((manifest.get("data_sha256") or {}).items()))
    yield "Artifact", f"sha256 `{manifest['sha256']}`" if "sha256" in manifest else ""


def _terms(terms: Mapping[str, Any]) -> str:
    if not terms:
        return ""
    samples = f"a sample every {terms['sample_every_min']} min of the last {terms['window_days']} days"
    return f"{samples}, the last {terms['validation_frac']:.0%} for validation; a round trip costs {terms['round_trip_cost_frac']:.2%}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _number(value: Any) -> str:
    if value is None:
        return "cannot be told"
    return f"{value:,}" if isinstance(value, int) else f"{value:z.5f}" if isinstance(value, float) else str(value)


def _list(items: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in items if value)


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows)]
    return "\n".join(lines)
