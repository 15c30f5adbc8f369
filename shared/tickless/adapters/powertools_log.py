"""Structured log lines by Powertools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

_TAKEN = frozenset(
    {
        "args",
        "asctime",
        "created",
        "exc_info",
        "exc_text",
        "extra",
        "filename",
        "funcName",
        "levelname",
        "levelno",
        "lineno",
        "message",
        "module",
        "msecs",
        "msg",
        "name",
        "pathname",
        "process",
        "processName",
        "relativeCreated",
        "stack_info",
        "stacklevel",
        "taskName",
        "thread",
        "threadName",
    }
)
"""What the standard library's log records call their own parts; it raises where a field has such a name."""


class PowertoolsLog:
    """The Log port over a Powertools Logger. A field named like a part of a log record gets an underscore behind its name."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def info(self, message: str, **fields: Any) -> None:
        """See ``Log.info``."""
        self._logger.info(message, extra=_free(fields), stacklevel=3)

    def warning(self, message: str, **fields: Any) -> None:
        """See ``Log.warning``."""
        self._logger.warning(message, extra=_free(fields), stacklevel=3)


def _free(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}_" if name in _TAKEN else name: value for name, value in fields.items()}
