"""The CDK app: ``python -m infra.app`` writes ``cdk.out``; the CDK command runs the same through ``cdk.json``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

from aws_cdk import App

from infra.intent import exit_code, refuse_unmeant
from infra.settings import stage_settings
from infra.stack import DeskStack
from tickless.errors import TicklessError
from tickless.settings import load_desk


def synthesize(desk: str = "rotation", stage: str = "dev", outdir: str | None = None, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The CloudFormation template of a desk.

    ``desk`` is a built-in name or a TOML file, ``overrides`` are ``section.key=value``. With ``outdir`` the whole cloud
    assembly is written there, with the layers as they are built; without it only the template is wanted, and each layer is
    named by its list of requirements, whatever is built. Raises SettingsError.
    """
    if outdir is None:
        with tempfile.TemporaryDirectory() as folder:
            # Nobody deploys from here, so the assets need not be copied.
            app = App(outdir=folder, analytics_reporting=False, context={"aws:cdk:disable-asset-staging": True})
            return _synthesize(app, desk, stage, overrides, built_layers=False)
    return _synthesize(App(outdir=outdir, analytics_reporting=False), desk, stage, overrides, built_layers=True)


def _synthesize(app: App, desk: str, stage: str, overrides: Iterable[str], *, built_layers: bool) -> dict[str, Any]:
    stack = DeskStack(app, stage=stage_settings(stage), settings=load_desk(desk, overrides), built_layers=built_layers)
    template: dict[str, Any] = app.synth().get_stack_by_name(stack.stack_name).template
    return template


def main(arguments: Sequence[str] | None = None) -> int:
    """Synthesize into ``cdk.out``, or where the CDK command says. Its ``-c desk=… -c stage=…`` win over the options."""
    parser = argparse.ArgumentParser(prog="python -m infra.app", description="Write the cloud assembly of a desk.")
    parser.add_argument("--desk", default="rotation", help="a built-in desk or a TOML file (default: rotation)")
    parser.add_argument("--stage", default="dev", help="dev or prod (default: dev)")
    parser.add_argument("--live", default="no", help="yes: a live desk is meant to send real orders (default: no)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a value of the desk")
    parser.add_argument("--out", default=os.environ.get("CDK_OUTDIR", "cdk.out"), help="where to write (default: cdk.out)")
    options = parser.parse_args(arguments)
    app = App(outdir=options.out, analytics_reporting=False)
    desk = app.node.try_get_context("desk") or options.desk
    stage = app.node.try_get_context("stage") or options.stage
    try:
        refuse_unmeant(desk, stage, app.node.try_get_context("live") or options.live, options.set)
        _synthesize(app, desk, stage, options.set, built_layers=True)
    except TicklessError as error:
        sys.stderr.write(f"{error}\n")
        return exit_code(error)
    if "CDK_OUTDIR" not in os.environ:  # the CDK command prints warnings itself
        for construct in app.node.find_all():
            for entry in construct.node.metadata:
                if entry.type == "aws:cdk:warning":
                    sys.stderr.write(f"warning: {entry.data}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
