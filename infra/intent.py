"""Whether a deploy is meant as it is asked for: ``python -m infra.intent`` says no before a layer is built or a stack is synthesized."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from infra.settings import stage_settings
from tickless.errors import RefusedError, TicklessError
from tickless.settings import load_desk


def refuse_unmeant(desk: str, stage: str, live: str, overrides: Iterable[str] = ()) -> None:
    """Raise RefusedError for a live desk where ``live`` is not ``yes``; SettingsError for a desk or a stage that cannot be read."""
    stage_settings(stage)
    if load_desk(desk, overrides).desk.mode == "live" and live != "yes":
        raise RefusedError(f"{desk}: desk.mode is 'live': {stage} would send real orders; say so with -c live=yes, or make LIVE=yes")


def exit_code(error: TicklessError) -> int:
    """The command's exit code for an error: 3 for a refusal, else 2."""
    return 3 if isinstance(error, RefusedError) else 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or one sentence on stderr and the code of its error."""
    parser = argparse.ArgumentParser(prog="python -m infra.intent", description="Check that a deploy is meant.")
    parser.add_argument("--desk", default="rotation", help="a built-in desk or a TOML file (default: rotation)")
    parser.add_argument("--stage", default="dev", help="dev or prod (default: dev)")
    parser.add_argument("--live", default="no", help="yes: a live desk is meant to send real orders (default: no)")
    options = parser.parse_args(arguments)
    try:
        refuse_unmeant(options.desk, options.stage, options.live)
    except TicklessError as error:
        sys.stderr.write(f"{error}\n")
        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
