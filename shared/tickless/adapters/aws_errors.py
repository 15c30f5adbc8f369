"""What botocore's errors mean to us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

MISSING_CODES = frozenset({"404", "NoSuchKey", "NotFound"})
CONFLICT_CODES = frozenset({"412", "409", "PreconditionFailed", "ConditionalRequestConflict"})


def code_of(error: ClientError) -> str:
    """The error code of an answer, such as ``NoSuchKey``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def cancellation_codes(error: ClientError) -> list[str]:
    """The reason of each action of a cancelled transaction, ``None`` (the text) where it had none; empty for other errors."""
    response: Mapping[str, Any] = error.response
    return [str(reason.get("Code", "None")) for reason in response.get("CancellationReasons", ())]
