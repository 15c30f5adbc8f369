"""The deployed desk of a stage: found by its stack, reached through the same adapters that its functions use."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tickless.errors import InputError, TicklessError

if TYPE_CHECKING:
    from tickless.bootstrap import Cloud

Stage = Annotated[Literal["dev", "prod"], typer.Option("--stage", help="Which deployed desk.")]

_NO_LOGIN = frozenset({"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException", "RequestExpired"})


@dataclass(frozen=True)
class DeployedDesk:
    """A desk in the account and region that boto3 finds in the environment."""

    stage: str
    cloud: Cloud
    _stacks: Any
    """boto3's CloudFormation client."""

    @property
    def stack(self) -> str:
        """The name of its stack."""
        return stack_name(self.stage)

    @cached_property
    def functions(self) -> Mapping[str, str]:
        """The physical names of its functions by plain name, sorted. Raises TicklessError."""
        prefix = f"{self.stack}-"
        with translated(self.stack):
            pages = self._stacks.get_paginator("list_stack_resources").paginate(StackName=self.stack)
            found = [item for page in pages for item in page["StackResourceSummaries"] if item["ResourceType"] == "AWS::Lambda::Function"]
        physical = (str(item["PhysicalResourceId"]) for item in found)
        return {name.removeprefix(prefix): name for name in sorted(physical) if name.startswith(prefix)}

    def deployed_sections(self) -> dict[str, str]:
        """The text of every settings section as the last deploy wrote it, by section. Raises TicklessError."""
        with translated(self.stack):
            body = self._stacks.get_template(StackName=self.stack)["TemplateBody"]
        try:
            template = json.loads(body) if isinstance(body, str) else body
        except ValueError as error:
            raise TicklessError(f"stack {self.stack}: its template is not JSON ({error})") from error
        return sections_of(template, self.stage)


def stack_name(stage: str) -> str:
    """The stack of a stage."""
    return f"tickless-{stage}"


def sections_of(template: Mapping[str, Any], stage: str) -> dict[str, str]:
    """The settings sections that a template writes into SSM, sorted by name."""
    path = f"/tickless/{stage}/"
    found = {}
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::SSM::Parameter" and str(properties.get("Name", "")).startswith(path):
            found[properties["Name"].removeprefix(path)] = str(properties["Value"])
    return {name: found[name] for name in sorted(found)}


def find_desk(stage: str) -> DeployedDesk:
    """The deployed desk of a stage.

    Raises InputError where there is no stack of it, or no AWS region or credentials to look with; TicklessError where AWS does not answer.
    """
    from tickless.bootstrap import Cloud, Environment

    name = stack_name(stage)
    if os.environ.get("AWS_REGION"):
        # The AWS command and the CDK read this one, boto3 only the other; both must mean the same desk.
        os.environ["AWS_DEFAULT_REGION"] = os.environ["AWS_REGION"]
    with translated(name):
        import boto3

        stacks = boto3.client("cloudformation")
        stack = stacks.describe_stacks(StackName=name)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", ())}
    missing = [key for key in ("TableName", "BucketName", "TopicArn") if key not in outputs]
    if missing:
        raise InputError(f"stack {name}: is {stack['StackStatus']} and has no output {missing[0]}; deploy it first")
    environment = Environment(stage, outputs["TableName"], outputs["BucketName"], outputs["TopicArn"])
    return DeployedDesk(stage, Cloud(environment), stacks)


@contextmanager
def translated(stack: str) -> Iterator[None]:
    """Inside, errors of boto3 become one sentence: InputError for what the person can mend, TicklessError for the rest."""
    from botocore import exceptions as aws

    logins = (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError, aws.ProfileNotFound, aws.SSOError)
    try:
        yield
    except aws.NoRegionError as error:
        raise InputError(f"stack {stack}: no AWS region; set AWS_REGION, or a region in the AWS profile") from error
    except (*logins, aws.TokenRetrievalError) as error:
        raise InputError(f"stack {stack}: no AWS credentials that work ({_plain(error)}); log in, or set AWS_PROFILE") from error
    except aws.ClientError as error:
        code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
        if code == "ValidationError" and "does not exist" in message:
            raise InputError(
                f"stack {stack}: not deployed in this account and region; `make deploy` does, AWS_REGION chooses another"
            ) from error
        if code in _NO_LOGIN:
            raise InputError(f"stack {stack}: AWS does not take these credentials ({code}); log in again") from error
        raise TicklessError(f"stack {stack}: AWS refused: {_plain(error)}") from error
    except aws.BotoCoreError as error:
        raise TicklessError(f"stack {stack}: AWS did not answer: {_plain(error)}") from error


def _plain(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
