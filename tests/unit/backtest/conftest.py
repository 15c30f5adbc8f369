from __future__ import annotations

from pathlib import Path

import pytest
from made_run import made_run

from tickless.backtest.report import write_report
from tickless.backtest.results import RunRecord, write_results


@pytest.fixture(scope="session")
def run() -> RunRecord:
    """Three busy days."""
    return made_run()


@pytest.fixture
def folder(run: RunRecord, tmp_path: Path) -> Path:
    """The result folder of ``run``, fresh for each test."""
    write_results(run, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two busy weeks."""
    record, out = made_run(days=14, count=10, seed=4), tmp_path_factory.mktemp("report")
    return write_report(record, write_results(record, out), out)
