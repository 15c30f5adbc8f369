"""``python -m tests.acceptance.worlds --kind aws`` (or an exchange on a market: ``calm``, ``crash``): serves, and copies itself on demand.

``POST /acceptance/fork`` answers with the port of a copy of this process, with all it holds; ``POST /acceptance/end`` ends the process that
answers; ``POST /acceptance/quiet`` answers once no other request is being served. All end when the first one's standard input does. One
request to AWS at a time: moto's DynamoDB is not atomic between threads. ``POST /acceptance/hold`` makes AWS keep the answers to requests
from then on (see ``Hold``), until their client is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit

FORK, END, QUIET, HOLD, MEANT = "/acceptance/fork", "/acceptance/end", "/acceptance/quiet", "/acceptance/hold", "X-Meant-Host"
ROOT = Path(__file__).resolve().parents[2]
QUIET_WITHIN_S = 30.0


@dataclass
class Hold:
    """Keep the answer to every request whose target ends with ``target``, after ``skip`` of them: for so long, done first or never done."""

    target: str
    skip: int
    seconds: float
    done: bool

    def meets(self, target: str) -> bool:
        if not target.endswith(self.target):
            return False
        self.skip -= 1
        return self.skip < 0


class Forking(BaseHTTPRequestHandler):
    """Serves copies; what else is asked is the business of ``serve_request``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    timeout = 30
    server: Server

    def do_GET(self) -> None:
        if self.path == FORK:
            self._fork()
        elif self.path == END:
            os._exit(0)
        elif self.path == QUIET:
            self._wait_for_quiet()
        elif self.path == HOLD:
            self.server.hold = Hold(**json.loads(self.body()))
            self.reply(200, {}, b"")
        else:
            with self.server.lock:
                self.server.serving += 1
            try:
                self.serve_request()
            finally:
                with self.server.lock:
                    self.server.serving -= 1

    do_POST = do_DELETE = do_PUT = do_HEAD = do_GET

    def serve_request(self) -> None:
        raise NotImplementedError

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, status: int, headers: Any, data: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                self.send_header(name, str(value))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_expect_100(self) -> bool:
        """S3's client waits a second for this line, which must not stay in the buffer."""
        done = super().handle_expect_100()
        self.wfile.flush()
        return done

    def _fork(self) -> None:
        copy = type(self.server)(("127.0.0.1", 0), type(self))
        vars(copy).update({name: value for name, value in vars(self.server).items() if name in {"exchange"}})
        pid = os.fork()
        if pid == 0:
            self.server.socket.close()
            self.connection.close()
            try:
                copy.serve_forever(poll_interval=0.05)
            finally:
                os._exit(1)
        copy.socket.close()
        self.reply(200, {}, json.dumps({"port": copy.server_port}).encode())

    def _wait_for_quiet(self) -> None:
        ends_at = time.monotonic() + QUIET_WITHIN_S
        while self.server.serving and time.monotonic() < ends_at:
            time.sleep(0.01)
        self.reply(500 if self.server.serving else 200, {}, b"")

    def log_message(self, *args: object) -> None:
        """Silence."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[Forking]) -> None:
        super().__init__(address, handler)
        self.exchange: Any = None
        self.hold: Hold | None = None
        self.serving = 0
        self.lock = Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle is no error here."""


def aws_handler() -> type[Forking]:
    """moto behind HTTP: every request carries the host that it was meant for, or tells by its signature for which service it is."""
    from botocore.awsrequest import AWSPreparedRequest, HeadersDict
    from moto.core.models import botocore_stubber

    lock = Lock()

    class Handler(Forking):
        def serve_request(self) -> None:
            meant = self.headers.get(MEANT) or _signed_for(self.headers.get("Authorization", ""))
            hold = self.server.hold if self.server.hold and self.server.hold.meets(self.headers.get("X-Amz-Target", "")) else None
            headers = HeadersDict({name: value for name, value in self.headers.items() if name not in {MEANT, "Host"}})
            headers["Host"] = meant
            request = AWSPreparedRequest(self.command, f"https://{meant}{self.path}", headers, self.body(), False)
            if hold is not None and not hold.done:
                time.sleep(hold.seconds)
                self.close_connection = True
                return
            with lock:
                answered = botocore_stubber.process_request(request)
            if hold is not None:
                time.sleep(hold.seconds)
            status, told, body = answered if answered is not None else (501, {}, b"moto knows no such service")
            self.reply(status, told, body if isinstance(body, bytes) else str(body).encode())

    return Handler


def _signed_for(authorization: str) -> str:
    found = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request", authorization)
    return f"{found[2]}.{found[1]}.amazonaws.com" if found else ""


def exchange_handler() -> type[Forking]:
    from tests.loopback import server as loopback

    class Handler(Forking):
        _send, _cut = loopback.Handler._send, loopback.Handler._cut

        def serve_request(self) -> None:
            loopback.Handler.do_GET(self)  # type: ignore[arg-type]

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.worlds", description="An AWS or an exchange that copies itself.")
    parser.add_argument("--kind", required=True, help="aws, or a market of tests.acceptance.scenes")
    kind = parser.parse_args().kind
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with ExitStack() as stack:
        if kind == "aws":
            from moto import mock_aws

            from tickless.localcloud import moto_fixes

            stack.enter_context(mock_aws())
            stack.enter_context(moto_fixes.applied())
            server = Server(("127.0.0.1", 0), aws_handler())
        else:
            from tests.acceptance.scenes import world
            from tests.loopback.exchange import LoopbackExchange

            server = Server(("127.0.0.1", 0), exchange_handler())
            server.exchange = LoopbackExchange(world(kind))
        sys.stdout.write(f"{server.server_port}\n")
        sys.stdout.flush()
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        sys.stdin.read()
        os.killpg(os.getpgid(0), signal.SIGKILL)


class Served:
    """A process of this module, as its driver holds it."""

    def __init__(self, port: int, process: Popen[str] | None = None) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._process = process

    @classmethod
    def start(cls, kind: str) -> Served:
        command = [sys.executable, "-m", "tests.acceptance.worlds", "--kind", kind]
        process = Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True, start_new_session=True)
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port.isdigit(), f"the world {kind} did not start: {port!r}"
        return cls(int(port), process)

    def fork(self) -> Served:
        """A copy with all that this one holds."""
        return Served(json.loads(self._ask(FORK))["port"])

    def end(self) -> None:
        """End it; the first one takes all its copies with it."""
        if self._process is None:
            try:
                self._ask(END)
            except OSError:
                return  # It is gone before it can answer.
        else:
            self._process.communicate(timeout=10)

    def hold(self, hold: Hold) -> None:
        """Let AWS keep its answers."""
        self._ask(HOLD, json.dumps(asdict(hold)))

    def wait_for_quiet(self) -> None:
        """Until all that was asked is done, also what was asked by a process that is gone."""
        self._ask(QUIET)

    def _ask(self, path: str, body: str = "") -> bytes:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=QUIET_WITHIN_S + 5)
        try:
            connection.request("POST", path, body)
            answer = connection.getresponse()
            assert answer.status == 200, f"{path}: HTTP {answer.status}"
            return answer.read()
        finally:
            connection.close()


if __name__ == "__main__":
    main()
