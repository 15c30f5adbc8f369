"""The image of a training job, as far as it can be told without building it: what it copies is there, what it installs is pinned."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

DOCKERFILE = "images/training/Dockerfile"


@pytest.fixture
def text(root: Path) -> str:
    return (root / DOCKERFILE).read_text().replace("\\\n", " ")


def test_everything_that_is_copied_is_there(root, text):
    sources = [word for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert {"shared/tickless", "models", "images/training/train.py"} <= set(sources)
    assert [source for source in sources if not (root / source).exists()] == []


def test_its_constraints_are_the_lock_s_versions_and_cover_what_is_installed(root, text):
    (program,) = re.findall(r"sed '([^']*)' requirements\.lock", text)
    made = subprocess.run(["sed", program, root / "requirements.lock"], capture_output=True, text=True, check=True).stdout
    pinned = [Requirement(line.strip()) for line in made.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(pinned) > 50
    assert all([clause.operator for clause in requirement.specifier] == ["=="] for requirement in pinned)
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"ARG EXTRAS=(\w+)", text)
    wanted = {Requirement(line).name.lower() for line in (*project["dependencies"], *project["optional-dependencies"][extras])}
    assert wanted <= {requirement.name.lower() for requirement in pinned}


def test_it_runs_the_one_entry_point(root, text):
    assert 'ENTRYPOINT ["python", "/opt/ml/code/train.py"]' in text
    assert "SAGEMAKER_PROGRAM=train.py" in text
    assert "from tickless.learn.training_job import main" in (root / "images/training/train.py").read_text()
