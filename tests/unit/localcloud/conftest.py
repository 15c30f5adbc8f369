"""A small stack with every resource type the desk uses, and functions that write down what they saw."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tickless.localcloud import LocalCloud

HANDLER = """
import json, os, sys
import boto3

CLIENT = boto3.client("dynamodb")
CALLS = []

def handler(event, context):
    CALLS.append(event)
    print(json.dumps({"level": "INFO", "message": "woken", "request": context.aws_request_id}))
    emf = {"_aws": {"Timestamp": 0, "CloudWatchMetrics": [{"Namespace": "Tickless", "Dimensions": [["service"]],
           "Metrics": [{"Name": "TickDone", "Unit": "Count"}, {"Name": "Equity"}]}]},
           "service": context.function_name, "TickDone": [1.0, 1.0], "Equity": 5}
    print(json.dumps(emf))
    table = os.environ["TICKLESS_TABLE"]
    key = {"pk": {"S": "SEEN"}, "sk": {"S": f"{len(CALLS):05d}#{context.function_name}"}}
    CLIENT.put_item(TableName=table, Item={**key, "event": {"S": json.dumps(event)}})
    failures = event.get("fail_until", 0) if isinstance(event, dict) else 0
    if event == {"bad": "answer"}:
        return object()
    if event == {"leave": True}:
        sys.exit(3)
    if len(CALLS) <= failures:
        raise ValueError(f"no luck, call {len(CALLS)}")
    return {"calls": len(CALLS), "function": context.function_name, "left": context.get_remaining_time_in_millis(),
            "memory": context.memory_limit_in_mb, "service": os.environ["POWERTOOLS_SERVICE_NAME"]}
"""


class StepClock:
    """A clock that only moves when it is told to."""

    def __init__(self, start: datetime) -> None:
        self.at = start

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    def set(self, at: datetime) -> None:
        assert at >= self.at
        self.at = at


def function(name: str) -> dict[str, Any]:
    logical = name.title().replace("_", "")
    return {
        f"{logical}Function": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "FunctionName": f"tickless-dev-{name}",
                "Handler": "handler.handler",
                "Runtime": "python3.13",
                "Timeout": 60,
                "MemorySize": 512,
                "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                "Layers": [{"Ref": "Layer"}],
                "Code": {"S3Bucket": {"Fn::Sub": "cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}"}, "S3Key": "code.zip"},
                "DeadLetterConfig": {"TargetArn": {"Fn::GetAtt": ["Dead", "Arn"]}},
                "Environment": {"Variables": {"TICKLESS_TABLE": {"Ref": "Table"}, "POWERTOOLS_SERVICE_NAME": name}},
            },
        },
        f"{logical}Invoke": {
            "Type": "AWS::Lambda::EventInvokeConfig",
            "Properties": {
                "FunctionName": {"Ref": f"{logical}Function"},
                "Qualifier": "$LATEST",
                "MaximumRetryAttempts": 1,
                "MaximumEventAgeInSeconds": 600,
                "DestinationConfig": {"OnFailure": {"Destination": {"Fn::GetAtt": ["Failed", "Arn"]}}},
            },
        },
    }


def schedule(name: str, target: str, expression: str, **extra: Any) -> dict[str, Any]:
    return {
        "Type": "AWS::Scheduler::Schedule",
        "Properties": {
            "Name": name,
            "GroupName": {"Ref": "Group"},
            "ScheduleExpression": expression,
            "ScheduleExpressionTimezone": "Etc/UTC",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "State": "ENABLED",
            "Target": {
                "Arn": {"Fn::GetAtt": [target, "Arn"]},
                "RoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
                "DeadLetterConfig": {"Arn": {"Fn::GetAtt": ["Undelivered", "Arn"]}},
                "RetryPolicy": {"MaximumRetryAttempts": 1, "MaximumEventAgeInSeconds": 600},
                "Input": '{"scheduled_time":"<aws.scheduler.scheduled-time>","attempt":"<aws.scheduler.attempt-number>",'
                '"arn":"<aws.scheduler.schedule-arn>","id":"<aws.scheduler.execution-id>"}',
            },
        }
        | extra,
    }


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": f"AWS::{kind}", "Properties": properties}


def build_template() -> dict[str, Any]:
    key = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
    attributes = [{"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "sk", "AttributeType": "S"}]
    tls = {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    deny = {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "s3:*", "Resource": "*"} | tls
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
    alarm = {
        "Namespace": "AWS/Lambda", "MetricName": "Errors", "Statistic": "Sum", "Period": 300, "EvaluationPeriods": 1, "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold", "TreatMissingData": "notBreaching", "AlarmActions": [{"Ref": "Topic"}],
        "Dimensions": [{"Name": "FunctionName", "Value": {"Ref": "RiskCheckFunction"}}],
    }  # fmt: skip
    return {
        "Parameters": {
            "BootstrapVersion": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/cdk-bootstrap/hnb659fds/version"},
        },
        "Resources": {
            "Table": resource("DynamoDB::Table", KeySchema=key, AttributeDefinitions=attributes, BillingMode="PAY_PER_REQUEST"),
            "Bucket": resource("S3::Bucket"),
            "BucketPolicy": resource("S3::BucketPolicy", Bucket={"Ref": "Bucket"}, PolicyDocument={"Statement": [deny]}),
            **{name: resource("SQS::Queue") for name in ("Dead", "Failed", "Undelivered")},
            "Topic": resource("SNS::Topic"),
            "Mail": resource("SNS::Subscription", TopicArn={"Ref": "Topic"}, Protocol="email", Endpoint="a@example.com"),
            "Risk": resource("SSM::Parameter", Name="/tickless/dev/risk", Type="String", Value="{}", Tags={"desk": "rotation"}),
            "Role": resource("IAM::Role", AssumeRolePolicyDocument=trust),
            "Layer": resource("Lambda::LayerVersion", Content={"S3Bucket": "cdk-assets-123456789012", "S3Key": "layer.zip"}),
            "Logs": resource("Logs::LogGroup", LogGroupName="/aws/lambda/tickless-dev-risk_check"),
            "Errors": resource("CloudWatch::Alarm", **alarm),
            **function("risk_check"),
            **function("full_rebalance"),
            "Group": {"Type": "AWS::Scheduler::ScheduleGroup", "Properties": {"Name": "tickless-dev"}},
            "Full": schedule("full_rebalance-1", "FullRebalanceFunction", "cron(0 0,6,12,18 * * ? *)"),
            "Check": schedule("risk_check-1", "RiskCheckFunction", "cron(0/15 * * * ? *)"),
        },
    }  # fmt: skip


@pytest.fixture
def template() -> dict[str, Any]:
    return build_template()


@pytest.fixture
def functions_dir(tmp_path: Path) -> Path:
    for name in ("risk_check", "full_rebalance"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "handler.py").write_text(HANDLER)
    return tmp_path


@pytest.fixture
def cloud(template: dict[str, Any], functions_dir: Path) -> Iterator[LocalCloud]:
    with LocalCloud(template, stage="dev", functions_dir=functions_dir) as cloud:
        yield cloud


@pytest.fixture
def clock() -> StepClock:
    return StepClock(datetime(2024, 6, 1, tzinfo=UTC))
