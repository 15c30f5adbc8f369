"""Retraining: the one function that may write models. It takes no lease and holds up no risk check."""

from __future__ import annotations

from constructs import Construct

from infra.compute import DeskFunction, Layers
from infra.settings import FunctionSettings, StageSettings
from infra.storage import Storage
from tickless.settings import Settings


class Training(Construct):
    """The ``retrain`` function."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        function: FunctionSettings,
        layers: Layers,
        storage: Storage,
        stage: StageSettings,
        settings: Settings,
    ) -> None:
        super().__init__(scope, construct_id)
        self.retrain = DeskFunction(
            self,
            "Retrain",
            function=function,
            layers=layers,
            storage=storage,
            stage=stage,
            settings=settings,
            concurrency=stage.retrain_concurrency,
        )
