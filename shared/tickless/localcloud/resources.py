"""CloudFormation resource types that moto does not create by itself. Importing this module registers them.

Each is one call of the service's own API, so what a template declares exists in moto's backend and can be read back with boto3.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.cloudformation import parsing
from moto.core.common_models import CloudFormationModel

Create = Callable[[str, Mapping[str, Any], str], "Created"]


@dataclass(frozen=True)
class Created:
    """What a resource type's call returned: the value of ``Ref``, and those of ``Fn::GetAtt``."""

    physical_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)


def _api(service: str, region: str) -> Any:
    return boto3.client(service, region_name=region)  # type: ignore[call-overload]


def _only(properties: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: properties[name] for name in names if name in properties}


def _schedule(name: str, properties: Mapping[str, Any], region: str) -> Created:
    answer = _api("scheduler", region).create_schedule(Name=name, **{k: v for k, v in properties.items() if k != "Name"})
    return Created(name, {"Arn": answer["ScheduleArn"]})


def _schedule_group(name: str, properties: Mapping[str, Any], region: str) -> Created:
    answer = _api("scheduler", region).create_schedule_group(Name=name, **_only(properties, "Tags"))
    return Created(name, {"Arn": answer["ScheduleGroupArn"]})


def _alarm(name: str, properties: Mapping[str, Any], region: str) -> Created:
    cloudwatch = _api("cloudwatch", region)
    cloudwatch.put_metric_alarm(AlarmName=name, **{k: v for k, v in properties.items() if k != "AlarmName"})
    arn = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["AlarmArn"]
    return Created(name, {"Arn": arn})


def _composite_alarm(name: str, properties: Mapping[str, Any], region: str) -> Created:
    _api("cloudwatch", region).put_composite_alarm(AlarmName=name, **{k: v for k, v in properties.items() if k != "AlarmName"})
    return Created(name)


def _subscription(_: str, properties: Mapping[str, Any], region: str) -> Created:
    attributes = {}
    for key in ("FilterPolicy", "RawMessageDelivery", "RedrivePolicy"):
        if key in properties:
            attributes[key] = properties[key] if isinstance(properties[key], str) else json.dumps(properties[key])
    answer = _api("sns", region).subscribe(
        **_only(properties, "TopicArn", "Protocol", "Endpoint"), Attributes=attributes, ReturnSubscriptionArn=True
    )
    return Created(answer["SubscriptionArn"])


def _topic_policy(name: str, properties: Mapping[str, Any], region: str) -> Created:
    for topic in properties["Topics"]:
        text = json.dumps(properties["PolicyDocument"])
        _api("sns", region).set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=text)
    return Created(name)


def _queue_policy(name: str, properties: Mapping[str, Any], region: str) -> Created:
    for queue in properties["Queues"]:
        attributes = {"Policy": json.dumps(properties["PolicyDocument"])}
        _api("sqs", region).set_queue_attributes(QueueUrl=queue, Attributes=attributes)
    return Created(name)


def _bucket_policy(_: str, properties: Mapping[str, Any], region: str) -> Created:
    bucket = properties["Bucket"]
    _api("s3", region).put_bucket_policy(Bucket=bucket, Policy=json.dumps(properties["PolicyDocument"]))
    return Created(bucket)


def _event_invoke_config(name: str, properties: Mapping[str, Any], region: str) -> Created:
    wanted = _only(properties, "FunctionName", "MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
    _api("lambda", region).put_function_event_invoke_config(**wanted)
    return Created(name)


def _alias(_: str, properties: Mapping[str, Any], region: str) -> Created:
    wanted = _only(properties, "FunctionName", "Name", "FunctionVersion", "Description")
    return Created(_api("lambda", region).create_alias(**wanted)["AliasArn"])


def _secret(name: str, properties: Mapping[str, Any], region: str) -> Created:
    text = properties.get("SecretString", "{}")
    answer = _api("secretsmanager", region).create_secret(Name=name, SecretString=text, **_only(properties, "Description"))
    return Created(answer["ARN"])


def _metric_filter(name: str, properties: Mapping[str, Any], region: str) -> Created:
    transformations = [{k[:1].lower() + k[1:]: v for k, v in t.items()} for t in properties["MetricTransformations"]]
    _api("logs", region).put_metric_filter(
        logGroupName=properties["LogGroupName"],
        filterName=name,
        filterPattern=properties.get("FilterPattern", ""),
        metricTransformations=transformations,
    )
    return Created(name)


_TYPES: Mapping[str, tuple[str, Create]] = {
    "AWS::Scheduler::Schedule": ("Name", _schedule),
    "AWS::Scheduler::ScheduleGroup": ("Name", _schedule_group),
    "AWS::CloudWatch::Alarm": ("AlarmName", _alarm),
    "AWS::CloudWatch::CompositeAlarm": ("AlarmName", _composite_alarm),
    "AWS::SNS::Subscription": ("", _subscription),
    "AWS::SNS::TopicPolicy": ("", _topic_policy),
    "AWS::SQS::QueuePolicy": ("", _queue_policy),
    "AWS::S3::BucketPolicy": ("", _bucket_policy),
    "AWS::Lambda::EventInvokeConfig": ("", _event_invoke_config),
    "AWS::Lambda::Alias": ("", _alias),
    "AWS::SecretsManager::Secret": ("Name", _secret),
    "AWS::Logs::MetricFilter": ("FilterName", _metric_filter),
}


def _model(kind: str, name_property: str, create: Create) -> type[CloudFormationModel]:
    """A class that moto's CloudFormation finds by its type. It must be a direct subclass of CloudFormationModel."""

    class Resource(CloudFormationModel):
        def __init__(self, created: Created) -> None:
            self._created = created

        @property
        def physical_resource_id(self) -> str:
            return self._created.physical_id

        def get_cfn_attribute(self, attribute: str) -> str:
            return self._created.attributes[attribute]

        @classmethod
        def has_cfn_attr(cls, attr: str) -> bool:
            return attr == "Arn"

        @staticmethod
        def cloudformation_name_type() -> str:
            return name_property

        @staticmethod
        def cloudformation_type() -> str:
            return kind

        @classmethod
        def create_from_cloudformation_json(
            cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **_: Any
        ) -> Resource:
            del account_id
            return cls(create(resource_name, cloudformation_json["Properties"], region_name))

        @classmethod
        def delete_from_cloudformation_json(
            cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str
        ) -> None:
            """Nothing to do: a local cloud goes as a whole."""

        def is_created(self) -> bool:
            return True

    Resource.__name__ = Resource.__qualname__ = kind.replace("AWS::", "").replace("::", "")
    return Resource


REGISTERED: tuple[type[CloudFormationModel], ...] = tuple(_model(kind, name, create) for kind, (name, create) in _TYPES.items())
"""Held here so that the classes live as long as the process."""

parsing.get_model_list.cache_clear()
parsing.get_model_map.cache_clear()
parsing.get_name_type_map.cache_clear()
