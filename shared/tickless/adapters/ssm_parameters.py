"""The desk's settings in SSM: ``/tickless/<stage>/<section>``, one parameter a section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from tickless.adapters.sections import check_section
from tickless.errors import RetryableError

if TYPE_CHECKING:
    from types_boto3_ssm import SSMClient

PAGE = 10
"""The most that one call of GetParametersByPath returns."""


class SsmParameterStore:
    """The ParameterStore port on SSM. ``client`` is boto3's SSM client."""

    def __init__(self, client: SSMClient, stage: str) -> None:
        self._client = client
        self._path = f"/tickless/{stage}/"

    def read(self) -> Mapping[str, str]:
        """See ``ParameterStore.read``."""
        found: dict[str, str] = {}
        try:
            pages = self._client.get_paginator("get_parameters_by_path").paginate(Path=self._path, PaginationConfig={"PageSize": PAGE})
            for page in pages:
                found |= {entry["Name"].removeprefix(self._path): entry["Value"] for entry in page["Parameters"]}
        except (ClientError, BotoCoreError) as error:
            raise RetryableError(f"parameters {self._path}: cannot be read: {error}") from error
        return {name: found[name] for name in sorted(found)}

    def write(self, section: str, text: str) -> None:
        """See ``ParameterStore.write``; raises SettingsError for a name or text SSM would not take, and RetryableError."""
        check_section(section, text)
        try:
            self._client.put_parameter(Name=self._path + section, Value=text, Type="String", Overwrite=True)
        except (ClientError, BotoCoreError) as error:
            raise RetryableError(f"parameter {self._path}{section}: cannot be written: {error}") from error
