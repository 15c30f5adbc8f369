"""Lambda's side of a function: its Runtime API on loopback, and the SIGKILL at the deadline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
API = "/2018-06-01/runtime"
INIT_WITHIN_S = 120.0
ARN = "arn:aws:lambda:eu-central-1:123456789012:function:desk"
ANSWERED, FAILED, TIMED_OUT = "answered", "failed", "timed out"


@dataclass
class Invocation:
    """One event, and what came of it."""

    event: Mapping[str, Any]
    request_id: str
    timeout_s: float
    begun: Event = field(default_factory=Event)
    ended: Event = field(default_factory=Event)
    outcome: str = TIMED_OUT
    payload: Any = None


class RuntimeApi(ThreadingHTTPServer):
    """Gives the function its one event, with the deadline, and takes its answer or its error."""

    daemon_threads = True

    def __init__(self, invocation: Invocation) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.invocation = invocation
        self.given = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A function that was killed is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RuntimeApi

    def do_GET(self) -> None:
        if self.path != f"{API}/invocation/next" or self.server.given:
            Event().wait(INIT_WITHIN_S)  # There is no second event: as a function that is frozen until the next.
            return
        self.server.given = True
        invocation = self.server.invocation
        data = json.dumps(invocation.event).encode()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", invocation.request_id)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(round((time.time() + invocation.timeout_s) * 1000)))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", ARN)
        self.send_header("Lambda-Runtime-Trace-Id", "Root=1-00000000-000000000000000000000000;Sampled=0")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        invocation.begun.set()

    def do_POST(self) -> None:
        invocation = self.server.invocation
        payload = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.wfile.flush()
        if not invocation.ended.is_set():
            invocation.payload = payload
            invocation.outcome = ANSWERED if self.path == f"{API}/invocation/{invocation.request_id}/response" else FAILED
        invocation.begun.set()  # Where it failed before it asked for an event.
        invocation.ended.set()

    def log_message(self, *args: object) -> None:
        """Silence."""


def invoke(function: str, invocation: Invocation, environment: Mapping[str, str], output: Path) -> Invocation:
    """Start the function's process, give it its event, and kill it at the deadline, or once it has answered. Its output goes to a file."""
    server = RuntimeApi(invocation)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH", "OMP_NUM_THREADS") if name in os.environ}
    told = {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11"}
    command = [sys.executable, "-m", "tests.acceptance.lambda_function"]
    with output.open("ab") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**kept, **told, **environment, "TICK_FUNCTION": function}, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            assert invocation.begun.wait(INIT_WITHIN_S), f"the function never asked for its event: {output.read_text()[-2000:]}"
            invocation.ended.wait(invocation.timeout_s)
            invocation.ended.set()
        finally:
            process.kill()
            process.wait(timeout=10)
            server.shutdown()
            server.server_close()
            thread.join(timeout=5)
    return invocation
