"""Training: LightGBM on float32 features, the same bits every time."""

from __future__ import annotations

from typing import Any

from tickless.learn.dataset import Samples, Split
from tickless.learn.spec import FitSpec


def fit_model(split: Split, fit: FitSpec, seed: int, num_threads: int) -> Any:
    """A LightGBM booster fitted on ``split.fit``, with as many rounds as did best on the inner slice.

    The number of rounds is found by fitting ``split.train`` and stopping early on ``split.inner``; both lie before the validation slice.
    """
    import lightgbm

    params = _params(fit, seed, num_threads)
    train = _dataset(split.train, params)
    inner = _dataset(split.inner, params, reference=train)
    stop = lightgbm.early_stopping(fit.early_stopping_rounds, verbose=False)
    probe = lightgbm.train(params, train, num_boost_round=fit.rounds, valid_sets=[inner], callbacks=[stop])
    rounds = max(1, probe.best_iteration)
    return lightgbm.train(params, _dataset(split.fit, params), num_boost_round=rounds)


def _params(fit: FitSpec, seed: int, num_threads: int) -> dict[str, Any]:
    hyper = fit.model_dump(exclude={"rounds", "early_stopping_rounds"})
    return {
        **hyper,
        "objective": "regression",
        "metric": "l2",
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed,
        "num_threads": num_threads,
        "verbosity": -1,
    }


def _dataset(samples: Samples, params: dict[str, Any], reference: Any = None) -> Any:
    import lightgbm

    return lightgbm.Dataset(samples.x, label=samples.y, params=params, reference=reference, feature_name=list(samples.features))
