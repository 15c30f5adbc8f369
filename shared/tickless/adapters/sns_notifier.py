"""Alerts on an SNS topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from tickless.ports import Log

if TYPE_CHECKING:
    from types_boto3_sns import SNSClient

MAX_SUBJECT = 100
"""SNS takes less than this many characters of ASCII, without line breaks."""


class SnsNotifier:
    """The Notifier port on a topic. ``client`` is boto3's SNS client. An alert that cannot be sent is logged: a tick never fails for it."""

    def __init__(self, topic_arn: str, client: SNSClient, log: Log) -> None:
        self._topic_arn = topic_arn
        self._client = client
        self._log = log

    def alert(self, subject: str, message: str) -> None:
        """See ``Notifier.alert``."""
        try:
            self._client.publish(TopicArn=self._topic_arn, Subject=subject_line(subject), Message=message or subject)
        except (ClientError, BotoCoreError) as error:
            self._log.warning("alert not sent", subject=subject, reason=str(error))


def subject_line(text: str) -> str:
    """The text as SNS takes a subject: one line of printable ASCII, fewer than 100 characters, never empty."""
    line = "".join(char if " " <= char <= "~" else " " if char.isspace() else "?" for char in text)
    return " ".join(line.split())[: MAX_SUBJECT - 1] or "tickless"
