"""The nightly state machine in the Amazon States Language: which step follows which, what is tried again, what is caught.

Steps are invocations of the ``retrain`` function (``runs/training_steps.py``). A model whose branch fails is caught and reported, and the
others go on. Everything else that fails ends the execution, which raises an alarm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tickless.settings import TrainingSection

MODELS_AT_ONCE = 2
MACHINE_TIMEOUT_S = 11 * 3600
"""Two attempts of the longest job, and the steps around it; less than ``training_steps.CLAIM_H``, so that no other execution may take the
night from one that is alive."""
STEP_TIMEOUT_S = 930
"""A little more than the longest that a function may run."""
STARTUP_S = 1800
"""What a SageMaker job may need beside its run time: an instance, the image, the data."""

_TRANSIENT = [
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "RetryableError",
    "RateLimitedError",
    "LedgerError",
]
"""What passes by itself: Lambda's own errors, the exchange's, a conditional write that another won."""
_CRASHED = ["Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError", "States.Timeout"]
"""A function that was killed may live the next time."""


@dataclass(frozen=True)
class SageMakerJob:
    """What a training job is created with, beside what ``prepare`` says of the model."""

    name_prefix: str
    role_arn: str
    training: TrainingSection


def definition(function_arn: str, job: SageMakerJob | None) -> dict[str, Any]:
    """The machine. Without ``job`` a desk that asks for SageMaker has its models fail: there is no role to run them with."""
    return {
        "Comment": "A night's training: data set, models, promotion, report",
        "StartAt": "Prepare",
        "TimeoutSeconds": MACHINE_TIMEOUT_S,
        "States": {
            "Prepare": {
                **_step(function_arn, "prepare", {"execution.$": "$$.Execution.Name"}),
                "ResultSelector": {f"{name}.$": f"$.Payload.{name}" for name in ("status", "runs_on", "models", "experience")},
                "ResultPath": "$.night",
                "Next": "Is there anything to do?",
            },
            "Is there anything to do?": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.night.status", "StringEquals": "prepared", "Next": "Each model"}],
                "Default": "Nothing to do",
            },
            "Nothing to do": {"Type": "Pass", "InputPath": "$.night", "End": True},
            "Each model": {
                "Type": "Map",
                "ItemsPath": "$.night.models",
                "ItemSelector": {
                    "scheduled_time.$": "$.scheduled_time",
                    "runs_on.$": "$.night.runs_on",
                    "model.$": "$$.Map.Item.Value",
                },
                "MaxConcurrency": MODELS_AT_ONCE,
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "INLINE"},
                    "StartAt": "Where does it train?",
                    "States": _model_states(function_arn, job),
                },
                "ResultPath": "$.models",
                "Next": "Promote",
            },
            "Promote": {
                **_step(function_arn, "promote", {"models.$": "$.models"}),
                "ResultSelector": {"promoted.$": "$.Payload.promoted"},
                "ResultPath": "$.promotion",
                "Next": "Report",
            },
            "Report": {
                **_step(
                    function_arn, "report", {"models.$": "$.models", "promotion.$": "$.promotion", "experience.$": "$.night.experience"}
                ),
                "OutputPath": "$.Payload",
                "End": True,
            },
        },
    }


def _model_states(function_arn: str, job: SageMakerJob | None) -> dict[str, Any]:
    caught = {"Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Failed"}]}
    model = {"model.$": "$.model"}
    output = {"ResultSelector": {"artifact.$": "$.Payload.artifact"}, "ResultPath": "$.output"}
    return {
        "Where does it train?": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.runs_on", "StringEquals": "sagemaker", "Next": "Train on SageMaker"}],
            "Default": "Train in Lambda",
        },
        "Train in Lambda": {**_step(function_arn, "train", model), **output, **caught, "Next": "Validate"},
        "Train on SageMaker": _not_deployed() if job is None else {**_training_job(job), **caught, "Next": "Validate"},
        "Validate": {
            **_step(function_arn, "validate", {**model, "artifact.$": "$.output.artifact"}),
            "ResultSelector": {"sha256.$": "$.Payload.sha256", "skipped.$": "$.Payload.skipped"},
            "ResultPath": "$.validated",
            **caught,
            "Next": "Register",
        },
        "Register": {
            **_step(function_arn, "register", {**model, "artifact.$": "$.output.artifact", "validated.$": "$.validated"}),
            "OutputPath": "$.Payload",
            **caught,
            "End": True,
        },
        "Failed": {
            "Type": "Pass",
            "Parameters": {"name.$": "$.model.name", "version": "", "skipped": "", "failed.$": "$.error"},
            "End": True,
        },
    }


def _step(function_arn: str, step: str, payload: Mapping[str, str]) -> dict[str, Any]:
    """A task that invokes ``retrain`` for one step."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {
            "FunctionName": function_arn,
            "Payload": {"scheduled_time.$": "$.scheduled_time", "step": step, **payload},
        },
        "TimeoutSeconds": STEP_TIMEOUT_S,
        "Retry": [
            {"ErrorEquals": _TRANSIENT, "IntervalSeconds": 5, "MaxAttempts": 4, "BackoffRate": 2, "JitterStrategy": "FULL"},
            {"ErrorEquals": _CRASHED, "IntervalSeconds": 5, "MaxAttempts": 1},
        ],
    }


def _not_deployed() -> dict[str, Any]:
    cause = "training.runs_on is 'sagemaker', and the desk was deployed without the role and the image for it: deploy it again"
    return {"Type": "Pass", "Result": {"Error": "SettingsError", "Cause": cause}, "ResultPath": "$.error", "Next": "Failed"}


def _training_job(job: SageMakerJob) -> dict[str, Any]:
    """``CreateTrainingJob``, waited for. A job that fails is tried once more, from its beginning, under another name."""
    training = job.training
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createTrainingJob.sync",
        "Parameters": {
            "TrainingJobName.$": f"States.Format('{job.name_prefix}{{}}-{{}}', $.model.job, $$.State.RetryCount)",
            "RoleArn": job.role_arn,
            "AlgorithmSpecification": {"TrainingImage": training.image, "TrainingInputMode": "File"},
            "HyperParameters.$": "$.model.hyperparameters",
            "InputDataConfig": [_channel("bars", "$.model.bars"), _channel("job", "$.model.job_files")],
            "OutputDataConfig": {"S3OutputPath.$": "$.model.output"},
            "ResourceConfig": {"InstanceCount": 1, "InstanceType": training.instance_type, "VolumeSizeInGB": 10},
            "StoppingCondition": _stopping(training),
            "EnableManagedSpotTraining": training.spot,
            "EnableNetworkIsolation": True,
        },
        "ResultSelector": {"artifact.$": "$.ModelArtifacts.S3ModelArtifacts"},
        "ResultPath": "$.output",
        "TimeoutSeconds": 2 * training.max_runtime_s + STARTUP_S,
        "Retry": [{"ErrorEquals": ["States.TaskFailed"], "IntervalSeconds": 60, "MaxAttempts": 1}],
    }


def _channel(name: str, uri: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri.$": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": "File"}


def _stopping(training: TrainingSection) -> dict[str, int]:
    """How long a job may run, and on spare capacity how long it may take with waiting and starting anew."""
    stopping = {"MaxRuntimeInSeconds": training.max_runtime_s}
    return stopping | ({"MaxWaitTimeInSeconds": 2 * training.max_runtime_s} if training.spot else {})
