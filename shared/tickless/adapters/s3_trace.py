"""Traces in S3, one gzipped JSON object a tick; the same content gives the same bytes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tickless.adapters.s3_objects import S3Objects
from tickless.adapters.trace_json import trace_text
from tickless.types import Tick, utc

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


class S3Trace:
    """The Trace port on a bucket. Raises RetryableError."""

    def __init__(self, bucket: str, client: S3Client) -> None:
        self._objects = S3Objects(bucket, client)

    def write(self, tick: Tick, content: Mapping[str, Any]) -> None:
        """See ``Trace.write``."""
        self._objects.put(trace_key(tick), gzip.compress(trace_text(content).encode(), mtime=0))

    def read(self, tick: Tick) -> Mapping[str, Any] | None:
        """See ``Trace.read``."""
        found = self._objects.get(trace_key(tick))
        if found is None:
            return None
        content: Mapping[str, Any] = json.loads(gzip.decompress(found[0]))
        return content


def trace_key(tick: Tick) -> str:
    """``trace/<YYYY-MM-DD>/<HHMM>-<name>.json.gz``."""
    return f"trace/{utc(tick.scheduled_at):%Y-%m-%d/%H%M}-{tick.name}.json.gz"
