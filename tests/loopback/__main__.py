"""``python -m tests.loopback --world FILE --port 0``: serves until it is ended; prints its port first."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.loopback.exchange import LoopbackExchange
from tests.loopback.server import LoopbackServer
from tests.loopback.world import read_world


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.loopback", description="An exchange on loopback.")
    parser.add_argument("--world", type=Path, required=True, help="a file written by tests.loopback.world.write_world")
    parser.add_argument("--port", type=int, default=0, help="0 = any that is free")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with LoopbackServer(LoopbackExchange(read_world(options.world)), options.port) as server:
        sys.stdout.write(f"{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever(poll_interval=0.2)


main()
