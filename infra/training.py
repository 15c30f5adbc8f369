"""Retraining: the one function that may write models, and the state machine that runs it step by step every night."""

from __future__ import annotations

import re
from typing import Any

from aws_cdk import Aws, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.compute import DeskFunction, Layers, retention
from infra.settings import FunctionSettings, StageSettings
from infra.storage import Storage
from infra.training_machine import SageMakerJob, definition
from tickless.settings import Settings

_ECR = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+)")


class Training(Construct):
    """The ``retrain`` function and the nightly machine; where the desk asks for it, a role for SageMaker's training jobs."""

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
        self._storage = storage
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
        prefix = f"tickless-{stage.stage}-"
        role = iam.Role(self, "MachineRole", assumed_by=_service("states"), description="What the nightly state machine may do")
        job = None
        if settings.training.runs_on == "sagemaker":
            job_role = self._job_role(prefix, settings.training.image)
            job = SageMakerJob(prefix, job_role.role_arn, settings.training)
            self._may_train(role, job_role, prefix)
        _allow(role, "Steps", ["lambda:InvokeFunction"], [self.retrain.function.function_arn])
        self.machine = self._machine(role, f"{prefix}{function.name}", stage, job)

    def _machine(self, role: iam.Role, name: str, stage: StageSettings, job: SageMakerJob | None) -> sfn.CfnStateMachine:
        group = logs.LogGroup(
            self,
            "MachineLogs",
            # Vended logs: groups below this prefix do not use up the account's one resource policy.
            log_group_name=f"/aws/vendedlogs/states/{name}",
            retention=retention(stage.log_retention_days),
            removal_policy=self._storage.removal,
        )
        # Step Functions sets up its deliveries of logs by calls that know no resource.
        deliveries = ["CreateLogDelivery", "GetLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery", "ListLogDeliveries"]
        policies = ["PutResourcePolicy", "DescribeResourcePolicies", "DescribeLogGroups"]
        _allow(role, "LogDeliveries", [f"logs:{action}" for action in (*deliveries, *policies)], ["*"])
        target = sfn.CfnStateMachine.LogDestinationProperty(
            cloud_watch_logs_log_group=sfn.CfnStateMachine.CloudWatchLogsLogGroupProperty(log_group_arn=f"{group.log_group_arn}")
        )
        machine = sfn.CfnStateMachine(
            self,
            "Machine",
            state_machine_name=name,
            state_machine_type="STANDARD",
            role_arn=role.role_arn,
            definition_string=Stack.of(self).to_json_string(definition(self.retrain.function.function_arn, job)),
            logging_configuration=sfn.CfnStateMachine.LoggingConfigurationProperty(
                level="ERROR", include_execution_data=True, destinations=[target]
            ),
        )
        machine.apply_removal_policy(RemovalPolicy.DESTROY)
        # Without its rights the machine could not be created: AWS checks that it can write its log. W3005 notes the dependency on the role
        # itself, which comes with that on its policy.
        machine.node.add_dependency(role)
        machine.add_metadata("cfn-lint", {"config": {"ignore_checks": ["W3005"]}})
        return machine

    def _job_role(self, prefix: str, image: str) -> iam.Role:
        """What a training job may do: read what it was given, write what it made, write its log, fetch its image."""
        role = iam.Role(self, "JobRole", assumed_by=_service("sagemaker"), description="What a training job may do")
        bucket = self._storage.bucket
        _allow(role, "ReadJob", ["s3:GetObject"], [bucket.arn_for_objects("training/*")])
        _allow(role, "WriteModel", ["s3:PutObject"], [bucket.arn_for_objects("training/*/output/*")])
        _allow(role, "ListJob", ["s3:ListBucket"], [bucket.bucket_arn], {"StringLike": {"s3:prefix": ["training/*"]}})
        group = f"arn:{Aws.PARTITION}:logs:{Aws.REGION}:{Aws.ACCOUNT_ID}:log-group:/aws/sagemaker/TrainingJobs"
        _allow(role, "CreateLog", ["logs:CreateLogGroup", "logs:DescribeLogStreams"], [group])
        _allow(role, "Log", ["logs:CreateLogStream", "logs:PutLogEvents"], [f"{group}:log-stream:{prefix}*"])
        _allow(
            role,
            "Metrics",
            ["cloudwatch:PutMetricData"],
            ["*"],
            {"StringEquals": {"cloudwatch:namespace": "/aws/sagemaker/TrainingJobs"}},
        )
        if (repository := _ECR.match(image)) is not None:
            account, region, name = repository.groups()
            arn = f"arn:{Aws.PARTITION}:ecr:{region}:{account}:repository/{name}"
            _allow(role, "Image", ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], [arn])
            _allow(role, "ImageLogin", ["ecr:GetAuthorizationToken"], ["*"])
        return role

    def _may_train(self, role: iam.Role, job_role: iam.Role, prefix: str) -> None:
        """Let the machine create the desk's training jobs, wait for them, and hand its job role to SageMaker alone."""
        here = f"{Aws.REGION}:{Aws.ACCOUNT_ID}"
        jobs = f"arn:{Aws.PARTITION}:sagemaker:{here}:training-job/{prefix}*"
        actions = ("CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob", "AddTags")
        _allow(role, "TrainingJobs", [f"sagemaker:{action}" for action in actions], [jobs])
        to_sagemaker = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
        _allow(role, "PassJobRole", ["iam:PassRole"], [job_role.role_arn], to_sagemaker)
        rule = f"arn:{Aws.PARTITION}:events:{here}:rule/StepFunctionsGetEventsForSageMakerTrainingJobsRule"
        _allow(role, "WaitForJobs", ["events:PutTargets", "events:PutRule", "events:DescribeRule"], [rule])


def _service(name: str) -> iam.ServicePrincipal:
    return iam.ServicePrincipal(f"{name}.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}})


def _allow(role: iam.Role, sid: str, actions: list[str], resources: list[str], conditions: dict[str, Any] | None = None) -> None:
    role.add_to_policy(iam.PolicyStatement(sid=sid, actions=actions, resources=resources, conditions=conditions))
