"""Objects in S3: conditional reads and writes, and what their failures mean to us."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tickless.adapters.aws_errors import CONFLICT_CODES, MISSING_CODES, code_of
from tickless.errors import RetryableError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

UNCHANGED_CODES = frozenset({"304", "NotModified"})


class S3Objects:
    """The ObjectStore seam on a bucket, below a prefix. ``client`` is boto3's S3 client; tags are ETags. Raises RetryableError."""

    def __init__(self, bucket: str, client: S3Client, prefix: str = "") -> None:
        self._bucket = bucket
        self._client = client
        self._prefix = prefix

    def get(self, key: str) -> tuple[bytes, str] | None:
        """See ``ObjectStore.get``."""
        return self._get(key)

    def get_changed(self, key: str, tag: str) -> tuple[bytes, str] | None:
        """The content and tag of an object that has another tag than ``tag``; None where it has not changed or is not there."""
        return self._get(key, IfNoneMatch=tag)

    def put_if(self, key: str, content: bytes, tag: str | None) -> bool:
        """See ``ObjectStore.put_if``."""
        return self.put_tagged(key, content, tag) is not None

    def put_tagged(self, key: str, content: bytes, tag: str | None) -> str | None:
        """Like ``put_if``; returns the new tag, or None where the condition failed."""
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        try:
            return self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=content, **condition)["ETag"]
        except ClientError as error:
            # S3 answers 404 where the object that should match is gone.
            if code_of(error) in CONFLICT_CODES | MISSING_CODES and code_of(error) != "NoSuchBucket":
                return None
            raise self._failed("put", key, error) from error
        except BotoCoreError as error:
            raise self._failed("put", key, error) from error

    def put(self, key: str, content: bytes) -> None:
        """Store the content whatever is there."""
        try:
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=content)
        except (ClientError, BotoCoreError) as error:
            raise self._failed("put", key, error) from error

    def delete(self, key: str) -> None:
        """See ``ObjectStore.delete``."""
        try:
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)
        except (ClientError, BotoCoreError) as error:
            raise self._failed("delete", key, error) from error

    def keys(self, prefix: str) -> Sequence[str]:
        """See ``ObjectStore.keys``."""
        return list(self.tags(prefix))

    def tags(self, prefix: str) -> dict[str, str]:
        """The tag of every object whose key begins with ``prefix``, by key in sorted order; one call a thousand objects."""
        found: dict[str, str] = {}
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                found |= {entry["Key"].removeprefix(self._prefix): entry["ETag"] for entry in page.get("Contents", ())}
        except (ClientError, BotoCoreError) as error:
            raise self._failed("list", prefix, error) from error
        return found

    def _get(self, key: str, **condition: Any) -> tuple[bytes, str] | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **condition)
            return answer["Body"].read(), answer["ETag"]
        except ClientError as error:
            if code_of(error) in MISSING_CODES | UNCHANGED_CODES:
                return None
            raise self._failed("get", key, error) from error
        except BotoCoreError as error:
            raise self._failed("get", key, error) from error

    def _failed(self, call: str, key: str, error: Exception) -> RetryableError:
        return RetryableError(f"s3://{self._bucket}/{self._prefix}{key}: {call} failed: {error}")
