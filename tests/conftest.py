"""What every test may rely on: no network but loopback, no real credentials, one thread for each numeric library."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REALDATA = ROOT.parent / "shared" / "data"
TOOLKIT = ROOT / ".sagemaker"
"""Where `make sagemaker` puts SageMaker's training toolkit."""
TORCH = find_spec("torch") is not None
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LEFT_OUT = "tickless_left_out"

# Before numpy, boto3 or moto are imported: they read these once. A test that slipped past moto would reach nobody's account.
for name in [name for name in os.environ if name.startswith(("AWS_", "TICKLESS_", "POWERTOOLS_"))]:
    del os.environ[name]
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of recorded market data beside the project; for tests marked ``realdata``."""
    return REALDATA


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a headless browser."""
    found = _browser()
    if found is None:
        pytest.fail(f"this test needs a browser, one of {', '.join(BROWSERS)}: apt-get install chromium")
    return found


def _browser() -> str | None:
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.option.allow_hosts = "127.0.0.1,::1,localhost"
    config.option.allow_unix_socket = True


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are numbered, not spelt out: two processes must give a test one name, and compressed bytes may hold the time."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs things beside the project; the summary says so. In CI a browser is no such thing."""
    left_out: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("realdata") and not REALDATA.is_dir():
            left_out.setdefault("realdata: no recorded market data in ../shared/data", []).append(item)
        elif item.get_closest_marker("gru") and not TORCH:
            left_out.setdefault("gru: PyTorch is not installed: make gru", []).append(item)
        elif "toolkit" in getattr(item, "fixturenames", ()) and not TOOLKIT.is_dir():
            left_out.setdefault("sagemaker: its training toolkit is not installed: make sagemaker", []).append(item)
        elif "chromium" in getattr(item, "fixturenames", ()) and not os.environ.get("CI") and _browser() is None:
            left_out.setdefault(f"report: no browser here ({', '.join(BROWSERS)})", []).append(item)
    gone = [item for group in left_out.values() for item in group]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]
    counts = {why: len(group) for why, group in left_out.items()}
    setattr(config, LEFT_OUT, counts)
    if hasattr(config, "workeroutput"):
        config.workeroutput[LEFT_OUT] = counts


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Every xdist worker collects the same tests: keep what one of them left out."""
    setattr(node.config, LEFT_OUT, getattr(node, "workeroutput", {}).get(LEFT_OUT, {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts: Mapping[str, int] = getattr(config, LEFT_OUT, {})
    for why, count in counts.items():
        terminalreporter.write_line(f"LEFT OUT ({count}) {why}", yellow=True)


@pytest.fixture(autouse=True)
def _no_logger_outlives_its_test() -> Iterator[None]:
    """Powertools sets a function's logger up once a process, on the standard output of that moment: the next test gets a new one."""
    yield
    for name in ("risk_check", "feature_rebalance", "full_rebalance", "retrain"):
        logging.Logger.manager.loggerDict.pop(name, None)
