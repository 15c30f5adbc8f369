"""The exchange keys of a desk, from AWS Secrets Manager or an SSM SecureString; never from the environment, a file or a log.

A secret is JSON: ``{"apiKey": "...", "secret": "...", "password": "..."}``; only exchanges with a passphrase need ``password``. Its name
stands in the desk's settings as ``desk.secret_name``. A name that begins with ``/`` is an SSM parameter, anything else a secret of Secrets
Manager (or its ARN). Errors name the secret, never what is in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tickless.adapters.aws_errors import code_of
from tickless.errors import AccountError, RetryableError, SettingsError

HIDDEN = "***"
_DENIED = frozenset(
    {"AccessDeniedException", "DecryptionFailure", "InvalidKeyId", "KMSAccessDeniedException", "UnrecognizedClientException"}
)
_MISSING = frozenset({"ResourceNotFoundException", "ParameterNotFound", "InvalidRequestException"})


@dataclass(frozen=True, repr=False)
class ApiKeys:
    """The keys of one exchange account. Printing them prints the secret's name."""

    source: str
    """The name of the secret they come from."""
    api_key: str = field(repr=False)
    secret: str = field(repr=False)
    password: str = field(default="", repr=False)

    def __repr__(self) -> str:
        return f"ApiKeys(source={self.source!r}, {HIDDEN})"

    def __reduce__(self) -> Any:
        raise TypeError(f"the keys of {self.source} are not to be pickled or copied")

    def redact(self, text: str) -> str:
        """The text without the keys, should an exchange have repeated one of them."""
        for value in (self.secret, self.api_key, self.password):
            if len(value) > 3:
                text = text.replace(value, HIDDEN)
        return text


def load_keys(name: str, client: Callable[[str], Any]) -> ApiKeys:
    """The keys under a name of Secrets Manager, or of SSM where it begins with ``/``; ``client`` makes boto3's client of a service.

    Raises SettingsError for a missing or malformed secret, AccountError where we may not read it, RetryableError where AWS does not answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    if not name:
        raise SettingsError("desk.secret_name: missing; a desk with an exchange account needs the name of the secret with its keys")
    try:
        text = _parameter(name, client("ssm")) if name.startswith("/") else _secret(name, client("secretsmanager"))
    except ClientError as error:
        code = code_of(error)
        if code in _MISSING:
            raise SettingsError(f"desk.secret_name: there is no secret {name!r} ({code})") from None
        if code in _DENIED:
            raise AccountError(f"secret {name}: may not be read ({code})") from None
        raise RetryableError(f"secret {name}: cannot be read ({code})") from None
    except BotoCoreError as error:
        raise RetryableError(f"secret {name}: cannot be read ({type(error).__name__})") from None
    return parse_keys(name, text)


def parse_keys(name: str, text: str) -> ApiKeys:
    """The keys in a secret's JSON; raises SettingsError naming the secret and the field, never a value."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None  # Raised below: an error raised here would carry the secret's text along.
    if not isinstance(content, dict):
        raise SettingsError(f'secret {name}: must be JSON such as {{"apiKey": "...", "secret": "..."}}')
    unknown = sorted(content.keys() - {"apiKey", "secret", "password"})
    if unknown:
        raise SettingsError(f"secret {name}: has {len(unknown)} unknown field(s); known: apiKey, secret, password")
    for key in ("apiKey", "secret", "password"):
        value = content.get(key, "" if key == "password" else None)
        if not isinstance(value, str) or (not value.strip() and key != "password") or value != value.strip():
            raise SettingsError(f"secret {name}: {key} must be a text, not empty, without blanks around it")
    return ApiKeys(name, content["apiKey"], content["secret"], content.get("password", ""))


def _secret(name: str, client: Any) -> str:
    answer = client.get_secret_value(SecretId=name)
    text = answer.get("SecretString")
    if not isinstance(text, str):
        raise SettingsError(f"secret {name}: is binary, must be JSON text")
    return text


def _parameter(name: str, client: Any) -> str:
    parameter = client.get_parameter(Name=name, WithDecryption=True)["Parameter"]
    if parameter.get("Type") != "SecureString":
        raise SettingsError(f"desk.secret_name: parameter {name!r} is a {parameter.get('Type')}, keys must be a SecureString")
    return str(parameter["Value"])
