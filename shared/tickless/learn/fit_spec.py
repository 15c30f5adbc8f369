"""The ``[fit]`` table of a model specification: one set of hyper-parameters for each family of algorithms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from tickless.settings import Section

Share = Annotated[float, Field(gt=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Dropout = Annotated[float, Field(ge=0.0, lt=1.0)]

Algorithm = Literal["lightgbm_regression", "lightgbm_classification", "lightgbm_ranking", "ridge", "logistic", "gru"]
FAMILIES: dict[str, str] = {
    "lightgbm_regression": "lightgbm",
    "lightgbm_classification": "lightgbm",
    "lightgbm_ranking": "lightgbm",
    "ridge": "linear",
    "logistic": "linear",
    "gru": "gru_network",
}
"""Which hyper-parameters an algorithm takes."""
CLASSIFIERS = ("lightgbm_classification", "logistic")
"""The algorithms that give probabilities."""
FIT_KEY = "family"
"""Set from ``algorithm`` when a specification is read; no file states it."""


class TreeFit(Section):
    """LightGBM's hyper-parameters, by LightGBM's names."""

    family: Literal["lightgbm"] = Field(default="lightgbm", exclude=True)
    rounds: int = Field(default=400, ge=1, le=5000)
    early_stopping_rounds: int = Field(default=50, ge=1, le=1000)
    learning_rate: Share = 0.05
    num_leaves: int = Field(default=31, ge=2, le=1024)
    max_depth: int = Field(default=-1, ge=-1, le=64)
    """-1: as deep as ``num_leaves`` allows."""
    min_data_in_leaf: int = Field(default=200, ge=1, le=100_000)
    max_bin: int = Field(default=255, ge=7, le=1023)
    feature_fraction: Share = 0.8
    bagging_fraction: Share = 0.8
    bagging_freq: int = Field(default=1, ge=0, le=100)
    data_sample_strategy: Literal["bagging", "goss"] = "bagging"
    lambda_l2: NotNegative = 0.0
    rank_grades: int = Field(default=5, ge=2, le=31)
    """A ranker learns from so many grades of the label within a tick; others do not read it."""
    refit: bool = True
    """Fit once more on everything before the validation slice; else keep what was stopped early, without the inner slice."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data_sample_strategy == "goss" and self.bagging_freq > 0 and self.bagging_fraction < 1.0:
            raise ValueError("data_sample_strategy = 'goss' chooses the rows by itself: set bagging_fraction = 1.0")
        return self


class LinearFit(Section):
    """Ridge and logistic regression on standardised features. The linear baseline of every other model takes the defaults."""

    family: Literal["linear"] = Field(default="linear", exclude=True)
    ridge_per_row: Annotated[float, Field(gt=0.0, le=1000.0)] = 0.001
    """Penalty on the squared weights of standardised features, as a multiple of the rows: 0.001 shrinks little, 1 by half."""
    clip_z: Annotated[float, Field(gt=0.0, le=100.0)] = 5.0
    """Standardised features are clipped to plus or minus this: one outlier must not turn a line."""


class GruFit(Section):
    """A recurrent network: GRU layers with dropout, a dense layer with ReLU, one output. Squared error, Adam."""

    family: Literal["gru_network"] = Field(default="gru_network", exclude=True)
    sequence_bars: int = Field(default=60, ge=2, le=512)
    layers: int = Field(default=2, ge=1, le=4)
    hidden: int = Field(default=100, ge=1, le=512)
    dense: int = Field(default=50, ge=1, le=512)
    dropout: Dropout = 0.2
    """After each recurrent layer; half of it after the dense one."""
    epochs: int = Field(default=20, ge=1, le=500)
    patience: int = Field(default=5, ge=1, le=100)
    """Epochs without gain on the inner slice after which fitting stops."""
    batch_rows: int = Field(default=256, ge=1, le=65_536)
    learning_rate: Share = 0.001
    min_learning_rate: Share = 0.0001
    slow_after: int = Field(default=3, ge=1, le=100)
    """Epochs without gain after which the learning rate is halved, down to ``min_learning_rate``."""
    clip_norm: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    """Gradients longer than this are shortened to it."""
    clip_z: Annotated[float, Field(gt=0.0, le=100.0)] = 10.0
    """Features, less their median and over their interquartile range, are clipped to plus or minus this."""
    refit: bool = True
    """Fit once more on everything before the validation slice, for as many epochs as did best; else keep the best of the first fit."""


def _family(fit: Any) -> str:
    """Which of the tables a table, or a set of hyper-parameters, is."""
    return str(fit.get(FIT_KEY) if isinstance(fit, Mapping) else getattr(fit, FIT_KEY, None))


FitSpec = Annotated[
    Annotated[TreeFit, Tag("lightgbm")] | Annotated[LinearFit, Tag("linear")] | Annotated[GruFit, Tag("gru_network")],
    Discriminator(_family),
]
