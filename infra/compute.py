"""The Lambda functions: their code, layers, environment, logs, and exactly the rights they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from aws_cdk import Annotations, Aws, Duration, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.layers import LAYERS, is_built
from infra.settings import ROOT, FunctionSettings, StageSettings, desk_functions, timeout_s, title
from infra.storage import Storage
from tickless.settings import Settings

RUNTIME = lambda_.Runtime.PYTHON_3_13

NEVER_SHIPPED = ["**/__pycache__", "events"]
"""Of a function's folder."""


class Layers(Construct):
    """The layers of the desk's functions, each from ``layers/<name>/build``; where that is missing, its requirements stand in."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, built: bool) -> None:
        super().__init__(scope, construct_id)
        self._built = built
        names = sorted({name for function in desk_functions(settings).values() for name in function.layers})
        self._layers = {name: self._layer(name) for name in names}

    def of(self, function: FunctionSettings) -> list[lambda_.ILayerVersion]:
        """The layers of a function, in the order in which they are laid over one another."""
        return [self._layers[name] for name in function.layers]

    def _layer(self, name: str) -> lambda_.LayerVersion:
        folder = self._folder(name)
        return lambda_.LayerVersion(
            self,
            name.capitalize(),
            code=lambda_.Code.from_asset(str(folder), exclude=[] if folder.name == "build" else ["build", "build-*"]),
            compatible_runtimes=[RUNTIME],
            compatible_architectures=[lambda_.Architecture.X86_64],
            description=f"tickless: {name}",
        )

    def _folder(self, name: str) -> Path:
        folder = LAYERS / name
        if not self._built:
            return folder
        build = folder / "build"
        if is_built(name):
            return build
        state = "stale" if build.is_dir() else "not built"
        Annotations.of(self).add_warning_v2(
            f"tickless:layer-{name}", f"layer {name} is {state}: run `python layers/build.py` before you deploy"
        )
        return build if build.is_dir() else folder


class DeskFunction(Construct):
    """One function of the desk, with a role that names every resource it may touch."""

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
        concurrency: int | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        self.settings = function
        self._storage = storage
        log_group = self._logs(stage)
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"What {function.name} may do",
        )
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=f"tickless-{stage.stage}-{function.name}",
            description=f"tickless {function.name}: one tick",
            runtime=RUNTIME,
            architecture=lambda_.Architecture.X86_64,
            handler="handler.handler",
            code=lambda_.Code.from_asset(str(ROOT / "functions" / function.name), exclude=NEVER_SHIPPED),
            layers=layers.of(function),
            role=self.role,
            memory_size=function.memory_mb,
            timeout=Duration.seconds(timeout_s(function, settings.schedule)),
            reserved_concurrent_executions=concurrency,
            environment=self._environment(stage),
            log_group=log_group,
            logging_format=lambda_.LoggingFormat.JSON,
            application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
            system_log_level_v2=lambda_.SystemLogLevel.WARN,
        )
        # The function must wait for its policy; that it then names its role twice, which W3005 notes, is the CDK's way.
        cfn = cast("lambda_.CfnFunction", self.function.node.default_child)
        cfn.add_metadata("cfn-lint", {"config": {"ignore_checks": ["W3005"]}})
        self.function.configure_async_invoke(
            retry_attempts=1,
            max_event_age=Duration.seconds(settings.schedule.max_event_age_s),
            on_failure=destinations.SqsDestination(storage.failed),
        )
        # Not the managed basic-execution policy: that one may write to every log group of the account.
        self._allow("Logs", ["logs:CreateLogStream", "logs:PutLogEvents"], [log_group.log_group_arn])
        self._allow_bucket()
        self._allow_table()
        self._allow("Parameters", ["ssm:GetParametersByPath"], self._parameter_arns())
        self._allow("Alerts", ["sns:Publish"], [storage.topic.topic_arn])
        if function.trades and settings.desk.mode == "live":
            self._allow_keys(settings.desk.secret_name)

    def _logs(self, stage: StageSettings) -> logs.LogGroup:
        return logs.LogGroup(
            self,
            "Logs",
            log_group_name=f"/tickless/{stage.stage}/{self.settings.name}",
            retention=retention(stage.log_retention_days),
            removal_policy=self._storage.removal,
        )

    def _environment(self, stage: StageSettings) -> dict[str, str]:
        return {
            "TICKLESS_STAGE": stage.stage,
            "TICKLESS_TABLE": self._storage.table.table_name,
            "TICKLESS_BUCKET": self._storage.bucket.bucket_name,
            "TICKLESS_TOPIC_ARN": self._storage.topic.topic_arn,
            "POWERTOOLS_SERVICE_NAME": self.settings.name,
            "POWERTOOLS_METRICS_NAMESPACE": "Tickless",
            "OMP_NUM_THREADS": str(self.settings.threads),
            # Threads that spin while they wait take the processor from the one that works.
            "OMP_WAIT_POLICY": "PASSIVE",
        }

    def _allow(self, sid: str, actions: list[str], resources: list[str], conditions: dict[str, Any] | None = None) -> None:
        self.role.add_to_policy(iam.PolicyStatement(sid=sid, actions=actions, resources=resources, conditions=conditions))

    def _allow_bucket(self) -> None:
        bucket = self._storage.bucket
        self._allow("ReadObjects", ["s3:GetObject"], [bucket.arn_for_objects(f"{prefix}/*") for prefix in self.settings.reads])
        self._allow("WriteObjects", ["s3:PutObject"], [bucket.arn_for_objects(f"{prefix}/*") for prefix in self.settings.writes])
        if self.settings.deletes:
            self._allow("DeleteObjects", ["s3:DeleteObject"], [bucket.arn_for_objects(f"{prefix}/*") for prefix in self.settings.deletes])
        # Without the right to list, S3 answers 403 instead of 404 for an object that is missing. A GetObject carries no
        # prefix, so the condition must let its absence pass; names are all that can leak.
        self._allow(
            "ListObjects",
            ["s3:ListBucket"],
            [bucket.bucket_arn],
            {"StringLikeIfExists": {"s3:prefix": [f"{prefix}/*" for prefix in self.settings.reads]}},
        )

    def _allow_table(self) -> None:
        """Trading functions move the desk's state; ``retrain`` reads it and puts the record of its tick."""
        # A transaction needs the rights of the single actions in it, no right of its own.
        table = [self._storage.table.table_arn]
        actions = ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem"]
        if self.settings.trades:
            self._allow("Ledger", [*actions, "dynamodb:ConditionCheckItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"], table)
        else:
            # The desk's own items, not the simulated account's: those move money.
            self._allow("Ledger", actions, table, {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["DESK"]}})

    def _allow_keys(self, name: str) -> None:
        """The keys of the exchange account, no other secret. One encrypted with a key of the owner's own needs that key's grant, too."""
        here = f"{Stack.of(self).region}:{Aws.ACCOUNT_ID}"
        if name.startswith("/"):
            self._allow("Keys", ["ssm:GetParameter"], [f"arn:{Aws.PARTITION}:ssm:{here}:parameter{name}"])
            return
        # Secrets Manager adds a hyphen and six characters to the name of a secret.
        arn = name if name.startswith("arn:") else f"arn:{Aws.PARTITION}:secretsmanager:{here}:secret:{name}-??????"
        self._allow("Keys", ["secretsmanager:GetSecretValue"], [arn])

    def _parameter_arns(self) -> list[str]:
        path = f"arn:{Aws.PARTITION}:ssm:{Stack.of(self).region}:{Aws.ACCOUNT_ID}:parameter{self._storage.parameter_path}"
        return [path, f"{path}/*"]


class TradingFunctions(Construct):
    """The functions that take the desk's lease."""

    def __init__(
        self, scope: Construct, construct_id: str, *, layers: Layers, storage: Storage, stage: StageSettings, settings: Settings
    ) -> None:
        super().__init__(scope, construct_id)
        self.functions = {
            name: DeskFunction(
                self,
                title(name),
                function=function,
                layers=layers,
                storage=storage,
                stage=stage,
                settings=settings,
            )
            for name, function in desk_functions(settings).items()
            if function.trades
        }


def retention(days: int) -> logs.RetentionDays:
    """How long a stage keeps its logs."""
    return {
        14: logs.RetentionDays.TWO_WEEKS,
        365: logs.RetentionDays.ONE_YEAR,
    }[days]
