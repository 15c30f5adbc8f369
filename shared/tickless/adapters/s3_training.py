"""What the steps of a nightly training hand one another: objects in S3 below ``training/``, which a training job reads and writes too."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from tickless.adapters.s3_objects import S3Objects
from tickless.errors import ArtifactError, TrainingError
from tickless.types import iso, parse_time

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PREFIX = "training/"


class S3TrainingFiles:
    """The TrainingFiles port on a bucket."""

    def __init__(self, bucket: str, client: S3Client) -> None:
        self._objects = S3Objects(bucket, client, PREFIX)
        self._root = f"s3://{bucket}/{PREFIX}"

    def put(self, key: str, content: bytes) -> None:
        """See ``TrainingFiles.put``."""
        self._objects.put(key, content)

    def get(self, key: str) -> bytes:
        """See ``TrainingFiles.get``."""
        found = self._objects.get(key)
        if found is None:
            raise TrainingError(f"{self._root}{key}: no such object")
        return found[0]

    def claim(self, key: str, owner: str, now: datetime, until: datetime) -> bool:
        """See ``TrainingFiles.claim``."""
        stored = self._objects.get(key)
        if stored is not None:
            claim = json.loads(stored[0])
            if claim["owner"] == owner:
                return True
            if parse_time(claim["until"]) > now:
                return False
        content = json.dumps({"owner": owner, "until": iso(until)}).encode()
        return self._objects.put_if(key, content, stored[1] if stored else None)

    def uri(self, key: str) -> str:
        """See ``TrainingFiles.uri``."""
        return self._root + key

    def key_of(self, uri: str) -> str:
        """See ``TrainingFiles.key_of``."""
        key = uri.removeprefix(self._root)
        if key == uri or ".." in key.split("/"):
            raise ArtifactError(f"{uri}: not below {self._root}")
        return key
