"""The local AWS: the stack that ``cdk deploy`` would create, made in this process on moto, with its functions running for real."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from types import MappingProxyType, TracebackType
from typing import Any, Self
from unittest.mock import patch

from tickless.errors import InputError, TicklessError
from tickless.localcloud.runtime import EmittedMetric, FunctionConfiguration, FunctionError, InvocationResult, Runtime

ACCOUNT = "123456789012"
NOT_CREATED = frozenset({"AWS::CDK::Metadata"})
"""Resource types of a template that a local cloud leaves out on purpose: they do nothing but count the CDK's users."""

DEFAULT_RETRIES = 2
DEFAULT_MAX_AGE_S = 21_600
"""Lambda's own values for asynchronous invocations."""


@dataclass(frozen=True)
class AsyncPolicy:
    """What Lambda does with an asynchronous invocation that fails."""

    max_retries: int = DEFAULT_RETRIES
    max_age_s: int = DEFAULT_MAX_AGE_S
    on_failure_arn: str | None = None
    """A destination: gets a record of the invocation."""
    dead_letter_arn: str | None = None
    """A dead-letter queue or topic: gets the event."""


class LocalCloud:
    """A context manager: inside it, boto3 in this process talks to the stack and to nothing else.

    Args:
        template: a synthesized CloudFormation template.
        stage: names the stack (``tickless-<stage>``).
        functions_dir: the folder with ``<name>/handler.py``; the code the stack's functions run.
        region: where the stack is.
        wiring: entered around every invocation, to replace ports of the handlers: ``lambda: bootstrap.wired(wiring)``.
        publish_metrics: also puts every metric the functions emit into CloudWatch.

    """

    def __init__(
        self,
        template: Mapping[str, Any],
        *,
        stage: str,
        functions_dir: Path,
        region: str = "us-east-1",
        wiring: Callable[[], AbstractContextManager[None]] = nullcontext,
        publish_metrics: bool = False,
    ) -> None:
        self.region = region
        self.stack_name = f"tickless-{stage}"
        self.metric_totals: dict[str, float] = {}
        """The sum of every emitted metric's values by name: for counters."""
        self.metric_latest: dict[str, float] = {}
        """The last value of every emitted metric by name: for gauges."""
        self.names: Mapping[str, str] = {}
        """Physical ids of the stack's resources by logical id."""
        self._template = template
        self._runtime = Runtime(functions_dir, region)
        self._wiring = wiring
        self._publish_metrics = publish_metrics
        self._stack = ExitStack()
        self._clients: dict[str, Any] = {}
        self._dead_letters: dict[str, str] = {}
        self._lock = RLock()
        self._executions = 0

    def __enter__(self) -> Self:
        from moto import mock_aws

        from tickless.localcloud import moto_fixes

        with ExitStack() as stack:
            stack.enter_context(_isolated_environment(self.region))
            stack.enter_context(mock_aws(config={"core": {"mock_credentials": False}}))
            _share_service_models()
            stack.enter_context(moto_fixes.applied())
            self._route_functions(stack)
            self._create_stack()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._clients.clear()
        self._stack.close()

    def client(self, service: str) -> Any:
        """A boto3 client of the local cloud, made once."""
        import boto3
        from botocore.config import Config

        if service not in self._clients:
            config = Config(parameter_validation=False, request_checksum_calculation="when_required")
            self._clients[service] = boto3.client(service, region_name=self.region, config=config)  # type: ignore[call-overload]
        return self._clients[service]

    def functions(self) -> Mapping[str, FunctionConfiguration]:
        """The stack's functions as Lambda has them now, by service name, in the template's order."""
        configurations = [
            self.configuration(self.names[logical_id])
            for logical_id, resource in self._template["Resources"].items()
            if resource["Type"] == "AWS::Lambda::Function" and logical_id in self.names
        ]
        return {configuration.service: configuration for configuration in configurations}

    def configuration(self, function: str) -> FunctionConfiguration:
        """A function by physical name or ARN; raises InputError where there is none."""
        from moto.awslambda.models import lambda_backends

        name = function.partition(":function:")[2].partition(":")[0] or function
        try:
            content = lambda_backends[ACCOUNT][self.region].get_function(name).get_configuration()
        except Exception as error:
            raise InputError(f"function {function}: the local cloud has none of this name") from error
        return FunctionConfiguration(
            name=content["FunctionName"],
            arn=f"arn:aws:lambda:{self.region}:{ACCOUNT}:function:{content['FunctionName']}",
            handler=content["Handler"],
            timeout_s=int(content["Timeout"]),
            memory_mb=int(content["MemorySize"]),
            environment=MappingProxyType(dict(content.get("Environment", {}).get("Variables", {}))),
        )

    def invoke(self, function: str, event: Any, *, cold: bool = False, retry_of: str = "") -> InvocationResult:
        """Invoke a function by service name, physical name or ARN and wait.

        ``cold`` imports its handler anew; ``retry_of`` is the request id of the attempt that this one repeats. An exception of the handler
        is in the result's ``error``. Invocations run one at a time.
        Raises InputError for an unknown function.
        """
        with self._lock:
            configuration = self._find(function)
            with self._wiring():
                result = self._runtime.invoke(configuration, event, cold=cold, retry_of=retry_of)
            for metric in result.metrics:
                self.metric_totals[metric.name] = self.metric_totals.get(metric.name, 0.0) + sum(metric.values)
                self.metric_latest[metric.name] = metric.values[-1]
            if self._publish_metrics:
                self._publish(result)
            return result

    def service_of(self, arn: str) -> str:
        """The short name of a function or a state machine; raises InputError where there is none of this ARN."""
        if arn.split(":")[2] == "states":
            name = str(self._machine(arn)["name"])
            return name.removeprefix(f"{self.stack_name}-")
        return self.configuration(arn).service

    def execute(self, machine_arn: str, event: Any) -> InvocationResult:
        """Run a state machine of the stack to its end, through the real functions; raises InputError where there is none.

        What its functions wrote and counted is in the result, and its output or the error that it failed with.
        """
        from tickless.localcloud.state_machine import Resource, StateError, StateMachine
        from tickless.localcloud.training_jobs import run_training_job

        description = self._machine(machine_arn)
        self._executions += 1
        name = f"local-{self._executions:06d}"
        done: list[InvocationResult] = []

        def invoke(parameters: Mapping[str, Any]) -> dict[str, Any]:
            result = self.invoke(parameters["FunctionName"], parameters.get("Payload"))
            done.append(result)
            if result.error is not None:
                raise StateError(result.error.type, json.dumps(result.payload))
            return {"StatusCode": 200, "ExecutedVersion": "$LATEST", "Payload": result.payload}

        resources: dict[str, Resource] = {
            "arn:aws:states:::lambda:invoke": invoke,
            "arn:aws:states:::sagemaker:createTrainingJob.sync": functools.partial(run_training_job, region=self.region),
        }
        machine = StateMachine(json.loads(description["definition"]), resources)
        started = time.perf_counter()
        error, payload = None, None
        try:
            payload = machine.run(event, name)
        except StateError as failure:
            error = FunctionError(failure.name, failure.cause, failure)
            payload = {"error": failure.name, "cause": failure.cause}
        logs = tuple(line for result in done for line in result.logs)
        metrics: tuple[EmittedMetric, ...] = tuple(metric for result in done for metric in result.metrics)
        return InvocationResult(self.service_of(machine_arn), name, payload, error, logs, metrics, time.perf_counter() - started)

    def _machine(self, arn: str) -> Mapping[str, Any]:
        client = self.client("stepfunctions")
        try:
            return dict(client.describe_state_machine(stateMachineArn=arn))
        except client.exceptions.StateMachineDoesNotExist as error:
            raise InputError(f"state machine {arn}: the local cloud has none of this name") from error

    def async_policy(self, function: str) -> AsyncPolicy:
        """How a function's asynchronous invocations are retried, and where those end that never succeed."""
        from moto.awslambda.models import lambda_backends

        name = self._find(function).name
        configs = lambda_backends[ACCOUNT][self.region].get_function(name).event_invoke_config
        config = configs[0].config if configs else {}
        return AsyncPolicy(
            max_retries=int(config.get("MaximumRetryAttempts", DEFAULT_RETRIES)),
            max_age_s=int(config.get("MaximumEventAgeInSeconds", DEFAULT_MAX_AGE_S)),
            on_failure_arn=config.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"),
            dead_letter_arn=self._dead_letters.get(name),
        )

    def give_up(self, event: Any, result: InvocationResult, attempts: int) -> bool:
        """Send an event whose last attempt failed where the function's settings say; returns whether there was such a place."""
        policy = self.async_policy(result.function)
        assert result.error is not None
        if policy.on_failure_arn:
            context = {"requestId": result.request_id, "condition": "RetriesExhausted", "approximateInvokeCount": attempts}
            record = {"version": "1.0", "requestContext": context, "requestPayload": event, "responsePayload": result.payload}
            self.send(policy.on_failure_arn, json.dumps(record), {})
        if policy.dead_letter_arn:
            attributes = {"RequestID": result.request_id, "ErrorCode": "200", "ErrorMessage": result.error.message[:1024] or "error"}
            self.send(policy.dead_letter_arn, json.dumps(event), attributes)
        return bool(policy.on_failure_arn or policy.dead_letter_arn)

    def send(self, arn: str, body: str, attributes: Mapping[str, str]) -> None:
        """Put a message into a queue or topic; raises InputError for any other target."""
        values = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        service, name = arn.split(":")[2], arn.rpartition(":")[2]
        if service == "sqs":
            queue = self.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
            self.client("sqs").send_message(QueueUrl=queue, MessageBody=body, MessageAttributes=values)
        elif service == "sns":
            self.client("sns").publish(TopicArn=arn, Message=body, MessageAttributes=values)
        else:
            raise InputError(f"target {arn}: neither a queue nor a topic")

    def _find(self, function: str) -> FunctionConfiguration:
        try:
            return self.configuration(function)
        except InputError:
            known = self.functions()
            if function not in known:
                raise InputError(f"function {function!r}: unknown; known: {', '.join(known)}") from None
            return known[function]

    def _route_functions(self, stack: ExitStack) -> None:
        """Let moto's Lambda run the real handlers, and remember the dead-letter queues it drops."""
        from moto.awslambda.models import LambdaFunction, LayerVersion

        create = LambdaFunction.create_from_cloudformation_json.__func__  # type: ignore[attr-defined]

        def create_function(cls: Any, resource_name: str, cloudformation_json: Any, *args: Any, **kwargs: Any) -> Any:
            function = create(cls, resource_name, cloudformation_json, *args, **kwargs)
            target = cloudformation_json["Properties"].get("DeadLetterConfig", {}).get("TargetArn")
            if target:
                self._dead_letters[function.function_name] = target
            return function

        def invoke(function: Any, body: Any, request_headers: Any, response_headers: Any) -> bytes:
            event = json.loads(body) if body else {}
            kind = request_headers.get("x-amz-invocation-type", "RequestResponse")
            if kind == "DryRun":
                return b""
            if kind == "Event":
                self._invoke_async(function.function_name, event)
                return b""
            result = self.invoke(function.function_name, event)
            if result.error is not None:
                response_headers["x-amz-function-error"] = "Unhandled"
            tail = "\n".join(result.logs).encode()[-4096:]
            response_headers["x-amz-log-result"] = base64.b64encode(tail).decode()
            return json.dumps(result.payload).encode()

        # moto's layers have no physical id, so that a reference to one would not resolve.
        stack.enter_context(patch.object(LayerVersion, "physical_resource_id", property(lambda layer: layer.arn), create=True))
        stack.enter_context(patch.object(LambdaFunction, "create_from_cloudformation_json", classmethod(create_function)))
        stack.enter_context(patch.object(LambdaFunction, "invoke", invoke))

    def _invoke_async(self, function: str, event: Any) -> None:
        attempts = self.async_policy(function).max_retries + 1
        for attempt in range(1, attempts + 1):
            result = self.invoke(function, event)
            if result.error is None:
                return
            if attempt == attempts:
                self.give_up(event, result, attempts)

    def _publish(self, result: InvocationResult) -> None:
        for metric in result.metrics:
            dimensions = [{"Name": name, "Value": value} for name, value in metric.dimensions.items()]
            data = {"MetricName": metric.name, "Dimensions": dimensions, "Values": list(metric.values), "Unit": metric.unit}
            self.client("cloudwatch").put_metric_data(Namespace=metric.namespace, MetricData=[data])

    def _create_stack(self) -> None:
        from moto.moto_api._internal import mock_random

        from tickless.localcloud import resources

        assert resources.REGISTERED
        # Generated names end in random letters; two runs on one template shall not differ in them.
        mock_random.seed(self.stack_name)
        for bucket, key in _assets(self._template, self.region):
            self._put_asset(bucket, key)
        for parameter in self._template.get("Parameters", {}).values():
            if parameter["Type"].startswith("AWS::SSM::Parameter::Value") and parameter.get("Default", "").startswith("/cdk-bootstrap/"):
                self.client("ssm").put_parameter(Name=parameter["Default"], Value="30", Type="String", Overwrite=True)
        cloudformation = self.client("cloudformation")
        with warnings.catch_warnings():
            # moto warns of each type it skips; what is missing is refused below.
            warnings.filterwarnings("ignore", message="Tried to parse")
            cloudformation.create_stack(StackName=self.stack_name, TemplateBody=_body(self._template), Capabilities=["CAPABILITY_IAM"])
            stack = cloudformation.describe_stacks(StackName=self.stack_name)["Stacks"][0]
            found = cloudformation.describe_stack_resources(StackName=self.stack_name)["StackResources"]
        if stack["StackStatus"] != "CREATE_COMPLETE":
            raise TicklessError(f"stack {self.stack_name}: {stack['StackStatus']} on the local cloud")
        self.names = {item["LogicalResourceId"]: item["PhysicalResourceId"] for item in found if item.get("PhysicalResourceId")}
        self._refuse_missing()

    def _refuse_missing(self) -> None:
        for logical_id, resource in self._template["Resources"].items():
            if logical_id not in self.names and resource["Type"] not in NOT_CREATED and "Condition" not in resource:
                raise TicklessError(f"resource {logical_id}: the local cloud cannot create {resource['Type']}")

    def _put_asset(self, bucket: str, key: str) -> None:
        s3 = self.client("s3")
        if bucket not in {found["Name"] for found in s3.list_buckets()["Buckets"]}:
            s3.create_bucket(Bucket=bucket, **_location(self.region))
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            # moto wants code to be there; the functions run from the checkout.
            archive.writestr("handler.py", "")
        s3.put_object(Bucket=bucket, Key=key, Body=content.getvalue())


def _share_service_models() -> None:
    """Make the default session of this context one that need not read the service models again: 0.4 s a local cloud."""
    import boto3
    import botocore.session

    session = botocore.session.get_session()
    session.register_component("data_loader", _loader())
    boto3.setup_default_session(botocore_session=session)


@functools.cache
def _loader() -> Any:
    from botocore.loaders import create_loader

    return create_loader()


def _body(template: Mapping[str, Any]) -> str:
    """The template's text. CloudFormation wants a parameter's tags as a mapping, moto as a list."""
    resources = dict(template["Resources"])
    for logical_id, resource in resources.items():
        tags = resource.get("Properties", {}).get("Tags")
        if resource["Type"] == "AWS::SSM::Parameter" and isinstance(tags, Mapping):
            properties = resource["Properties"] | {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            resources[logical_id] = resource | {"Properties": properties}
    return json.dumps({**template, "Resources": resources})


def _location(region: str) -> dict[str, Any]:
    return {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}


def _assets(template: Mapping[str, Any], region: str) -> Iterator[tuple[str, str]]:
    """The bucket and key of every function's and layer's code."""
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        for place in ("Code", "Content"):
            code = properties.get(place)
            if isinstance(code, Mapping) and "S3Bucket" in code:
                bucket = code["S3Bucket"]
                text = bucket["Fn::Sub"] if isinstance(bucket, Mapping) else bucket
                yield text.replace("${AWS::AccountId}", ACCOUNT).replace("${AWS::Region}", region), code["S3Key"]


@contextmanager
def _isolated_environment(region: str) -> Iterator[None]:
    """Credentials that work nowhere, and none of the person's own AWS settings."""
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for name in before:
        del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID="testing",
        AWS_SECRET_ACCESS_KEY="testing",  # noqa: S106  # no secret: works nowhere
        AWS_SESSION_TOKEN="testing",  # noqa: S106
        AWS_DEFAULT_REGION=region,
        AWS_REGION=region,
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
    )
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(before)
