"""Exchange keys: where they come from, and that nothing prints them."""

from __future__ import annotations

import copy
import json
import pickle
import traceback

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from tickless.adapters.ccxt_client import open_account_client
from tickless.adapters.secrets import ApiKeys, load_keys, parse_keys
from tickless.errors import AccountError, RetryableError, SettingsError

KEYS = {"apiKey": "AK-1234567890", "secret": "SK-0987654321"}


@pytest.fixture
def aws():
    with mock_aws():
        yield lambda service: boto3.client(service, region_name="eu-central-1")


def test_keys_come_from_secrets_manager(aws):
    aws("secretsmanager").create_secret(Name="tickless/dev/binance", SecretString=json.dumps({**KEYS, "password": "pw-12345"}))
    keys = load_keys("tickless/dev/binance", aws)
    assert (keys.source, keys.api_key, keys.secret, keys.password) == ("tickless/dev/binance", *KEYS.values(), "pw-12345")


def test_keys_come_from_a_secure_string_where_the_name_is_a_path(aws):
    aws("ssm").put_parameter(Name="/tickless/dev/keys", Value=json.dumps(KEYS), Type="SecureString")
    assert load_keys("/tickless/dev/keys", aws).secret == KEYS["secret"]


def test_a_parameter_in_plain_text_is_refused(aws):
    aws("ssm").put_parameter(Name="/tickless/dev/keys", Value=json.dumps(KEYS), Type="String")
    with pytest.raises(SettingsError, match=r"desk.secret_name: parameter '/tickless/dev/keys' is a String, keys must be a SecureString"):
        load_keys("/tickless/dev/keys", aws)


@pytest.mark.parametrize("name", ["nowhere", "/no/where"])
def test_a_secret_that_is_not_there_is_named(aws, name):
    with pytest.raises(SettingsError, match=f"desk.secret_name: there is no secret '{name}'"):
        load_keys(name, aws)
    with pytest.raises(SettingsError, match=r"desk.secret_name: missing"):
        load_keys("", aws)


def test_a_binary_secret_is_refused(aws):
    aws("secretsmanager").create_secret(Name="binary", SecretBinary=b"1234")
    with pytest.raises(SettingsError, match="secret binary: is binary"):
        load_keys("binary", aws)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetSecretValue"), AccountError),
        (ClientError({"Error": {"Code": "ThrottlingException"}}, "GetSecretValue"), RetryableError),
        (EndpointConnectionError(endpoint_url="https://secrets"), RetryableError),
    ],
)
def test_what_aws_says_becomes_an_error_of_ours(error, expected):
    class Client:
        def get_secret_value(self, SecretId: str) -> None:
            raise error

    with pytest.raises(expected, match="secret mine: "):
        load_keys("mine", lambda service: Client())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("AK-1234567890", "must be JSON"),
        ('["AK-1234567890"]', "must be JSON"),
        ('{"apiKey": "AK-1234567890"', "must be JSON"),
        ('{"apiKey": "AK-1234567890"}', "secret must be a text"),
        ('{"apiKey": "", "secret": "SK-0987654321"}', "apiKey must be a text"),
        ('{"apiKey": 12, "secret": "SK-0987654321"}', "apiKey must be a text"),
        ('{"apiKey": " AK-1234567890", "secret": "SK-0987654321"}', "apiKey must be a text"),
        ('{"apiKey": "AK-1234567890", "secret": "SK-0987654321", "SK-0987654321": 1}', "1 unknown field"),
    ],
)
def test_a_malformed_secret_is_refused_by_field_and_never_shown(text, says):
    with pytest.raises(SettingsError, match=f"secret mine: .*{says}") as caught:
        parse_keys("mine", text)
    shown = "".join(traceback.format_exception(caught.value, chain=True))
    assert not any(value in shown.replace(text, "") for value in KEYS.values())
    assert caught.value.__context__ is None


def test_keys_are_never_printed_copied_or_pickled():
    keys = parse_keys("mine", json.dumps({**KEYS, "password": "pw-12345"}))
    for shown in (repr(keys), str(keys), f"{keys}", f"{[keys]}"):
        assert "mine" in shown
        assert not any(value in shown for value in (*KEYS.values(), "pw-12345"))
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="the keys of mine are not to be pickled or copied"):
            leak(keys)
    assert keys.redact("bad key AK-1234567890 / SK-0987654321 / pw-12345") == "bad key *** / *** / ***"


def test_the_exchange_client_writes_no_log_even_at_debug_level(caplog):
    client = open_account_client("binance", ApiKeys("mine", *KEYS.values()))
    with caplog.at_level("DEBUG"):
        client.logger.debug("headers %s", {"X-MBX-APIKEY": client.apiKey})
        client.logger.critical("headers %s", {"X-MBX-APIKEY": client.apiKey})
    assert caplog.text == ""
    assert not client.verbose
    assert KEYS["apiKey"] not in repr(client)


def test_a_sandbox_is_switched_to_or_missed():
    spot = open_account_client("binance", ApiKeys("mine", *KEYS.values()), sandbox=True)
    assert "testnet.binance.vision" in spot.urls["api"]["private"]
    swap = open_account_client("binance", ApiKeys("mine", *KEYS.values()), market_type="swap", sandbox=True)
    assert "demo-fapi" in swap.urls["api"]["fapiPrivate"]
    with pytest.raises(SettingsError, match=r"desk\.sandbox: kraken has no sandbox for spot"):
        open_account_client("kraken", ApiKeys("mine", *KEYS.values()), sandbox=True)
