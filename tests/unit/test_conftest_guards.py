"""The guards of tests/conftest.py hold."""

import os
import socket

import pytest
from pytest_socket import SocketConnectBlockedError


def test_no_test_reaches_beyond_loopback() -> None:
    with socket.socket() as outside, pytest.warns(UserWarning, match="192.0.2.1"), pytest.raises(SocketConnectBlockedError):
        outside.connect(("192.0.2.1", 80))


def test_a_server_on_loopback_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5) as client:
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"tick")
            assert accepted.recv(4) == b"tick"


def test_credentials_are_nobodys() -> None:
    assert os.environ["AWS_ACCESS_KEY_ID"] == "testing"
    assert "AWS_PROFILE" not in os.environ
