"""The model registry in S3: ``models/<name>/<version>/…`` and ``models/<name>/champion.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickless.adapters.model_registry import ModelRegistry
from tickless.adapters.s3_objects import S3Objects

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


class S3ModelStore(ModelRegistry):
    """The ModelStore port on a bucket."""

    def __init__(self, bucket: str, client: S3Client) -> None:
        super().__init__(S3Objects(bucket, client, "models/"))
