"""The one stack of a desk."""

from __future__ import annotations

from aws_cdk import CfnOutput, DefaultStackSynthesizer, Stack, Tags
from constructs import Construct

from infra.compute import Layers, TradingFunctions
from infra.monitoring import Monitoring
from infra.schedules import Schedules
from infra.settings import StageSettings, desk_functions
from infra.storage import Storage
from infra.training import Training
from tickless.settings import Settings


class DeskStack(Stack):
    """Everything one desk owns: ``tickless-<stage>``."""

    def __init__(self, scope: Construct, *, stage: StageSettings, settings: Settings, built_layers: bool) -> None:
        super().__init__(
            scope,
            f"tickless-{stage.stage}",
            description=f"tickless: the desk {settings.desk.name}, stage {stage.stage}",
            termination_protection=stage.retain_state,
            # The CDK command checks the bootstrap version itself; without the rule the template needs no parameter.
            synthesizer=DefaultStackSynthesizer(generate_bootstrap_version_rule=False),
        )
        Tags.of(self).add("application", "tickless")
        Tags.of(self).add("stage", stage.stage)
        storage = Storage(self, "Storage", stage=stage, settings=settings)
        layers = Layers(self, "Layers", settings=settings, built=built_layers)
        functions = dict(TradingFunctions(self, "Trading", layers=layers, storage=storage, stage=stage, settings=settings).functions)
        machines = {}
        if (retrain := desk_functions(settings).get("retrain")) is not None:
            training = Training(self, "Training", function=retrain, layers=layers, storage=storage, stage=stage, settings=settings)
            functions["retrain"], machines["retrain"] = training.retrain, training.machine
        Schedules(
            self,
            "Schedules",
            stage=stage.stage,
            settings=settings,
            functions=functions,
            machines=machines,
            undelivered=storage.undelivered,
        )
        Monitoring(self, "Monitoring", stage=stage.stage, settings=settings, functions=functions, machines=machines, storage=storage)
        CfnOutput(self, "TableName", value=storage.table.table_name, description="The ledger")
        CfnOutput(self, "BucketName", value=storage.bucket.bucket_name, description="Bars, models and traces")
        CfnOutput(self, "TopicArn", value=storage.topic.topic_arn, description="Alerts")
