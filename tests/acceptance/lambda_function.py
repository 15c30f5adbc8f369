"""``python -m tests.acceptance.lambda_function``: the process of one Lambda function, under AWS's own runtime client (awslambdaric).

The handler is that of ``functions/``, its ports those of ``bootstrap``: keys from Secrets Manager, the shared request budget, the time that
Lambda's deadline leaves. What cannot be real is led elsewhere: AWS by its endpoint variable, the account's requests to the exchange on
loopback, the clock to the tick's own time. The environment tells: ``AWS_LAMBDA_RUNTIME_API``, ``TICK_FUNCTION``, and the rest as JSON in
``TICK``. For each request to the exchange a line goes to the file that it names: what was asked, its time-out, and the seconds left.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from awslambdaric.__main__ import main as run_under_lambda

from tests.acceptance import scenes
from tests.acceptance.worker import KEYS, TickClock
from tests.loopback.transport import LoopbackTransport
from tickless import bootstrap
from tickless.ports import Venue
from tickless.settings import Settings
from tickless.types import parse_time, to_ms

ROOT = Path(__file__).resolve().parents[2]


class TimedTransport(LoopbackTransport):
    """ccxt's last step; writes down how long each request may take, and how long the function has."""

    def __init__(self, url: str, told: Path, accounts: bootstrap.Accounts) -> None:
        super().__init__(url)
        self._told, self._accounts = told, accounts

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        line = {"what": f"{request.method} {urlsplit(request.url).path}", "timeout_s": kwargs["timeout"]}
        with self._told.open("a") as file:
            file.write(json.dumps(line | {"left_s": self._accounts.time_left_s()}) + "\n")
        return super().send(request, *args, **kwargs)


def main() -> None:
    job = json.loads(os.environ["TICK"])
    begins_at = parse_time(job["at"]) + timedelta(seconds=job["late_s"])
    market = scenes.market(job["market"])

    def open_venue(wiring: bootstrap.Wiring, cloud: bootstrap.Cloud, settings: Settings) -> Venue:
        accounts = cloud.accounts
        accounts.now = lambda: begins_at
        desk = settings.desk.model_copy(update={"secret_name": KEYS.source})
        account: Any = accounts.open(settings.model_copy(update={"desk": desk}))
        account.client.milliseconds = lambda: to_ms(begins_at)
        for prefix in ("https://", "http://"):
            account.client.session.mount(prefix, TimedTransport(job["exchange"], Path(job["told"]), accounts))
        return Venue(market, account)

    bootstrap.open_venue = open_venue
    sys.path.insert(0, str(ROOT / "functions" / os.environ["TICK_FUNCTION"]))
    with bootstrap.wired(bootstrap.Wiring(clock=TickClock(begins_at))):
        run_under_lambda(["bootstrap", "handler.handler"])


if __name__ == "__main__":
    main()
