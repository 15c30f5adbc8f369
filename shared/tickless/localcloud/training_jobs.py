"""SageMaker's training jobs: the API call is moto's, the container a process of its own that runs the desk's entry point.

The process gets what a container gets, below a folder instead of ``/opt/ml``: channels, hyperparameters, SIGTERM when its time is up. It
gets nothing else of the cloud: no credentials, no endpoint.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tickless.localcloud.state_machine import StateError

ENTRY = (sys.executable, "-m", "tickless.learn.training_job")
STOP_S = 120
"""How long SageMaker waits after SIGTERM."""


def run_training_job(parameters: Mapping[str, Any], region: str, entry: Sequence[str] = ENTRY) -> dict[str, Any]:
    """``createTrainingJob.sync``: the description of the finished job. Raises StateError where the job, or the call, fails.

    Parameters are checked against the service's model, as AWS would.
    """
    import boto3
    from botocore.exceptions import ClientError, ParamValidationError

    try:
        boto3.client("sagemaker", region_name=region).create_training_job(**parameters)
    except (ClientError, ParamValidationError) as error:
        raise StateError("SageMaker.AmazonSageMakerException", str(error)) from error
    name, s3 = parameters["TrainingJobName"], boto3.client("s3", region_name=region)
    with tempfile.TemporaryDirectory(prefix="sagemaker-") as folder:
        root = Path(folder)
        _bring_in(root, parameters, s3)
        code = _run(root, entry, parameters["StoppingCondition"]["MaxRuntimeInSeconds"])
        bucket, prefix = _place(parameters["OutputDataConfig"]["S3OutputPath"])
        key = f"{prefix.rstrip('/')}/{name}/output/model.tar.gz"
        s3.put_object(Bucket=bucket, Key=key, Body=_archive(root / "model"))
        if code:
            failure = root / "output" / "failure"
            said = failure.read_text("utf8") if failure.is_file() else "the container wrote no failure"
            cause = {"TrainingJobName": name, "TrainingJobStatus": "Failed", "FailureReason": f"AlgorithmError: {said}, exit code: {code}"}
            raise StateError("States.TaskFailed", json.dumps(cause))
    artifacts = {"S3ModelArtifacts": f"s3://{bucket}/{key}"}
    return {"TrainingJobName": name, "TrainingJobStatus": "Completed", "ModelArtifacts": artifacts}


def _bring_in(root: Path, parameters: Mapping[str, Any], s3: Any) -> None:
    for place in ("input/config", "model", "output"):
        (root / place).mkdir(parents=True)
    (root / "input" / "config" / "hyperparameters.json").write_text(json.dumps(parameters["HyperParameters"]), "utf8")
    for channel in parameters["InputDataConfig"]:
        bucket, prefix = _place(channel["DataSource"]["S3DataSource"]["S3Uri"])
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                path = root / "input" / "data" / channel["ChannelName"] / item["Key"].removeprefix(prefix)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read())


def _run(root: Path, entry: Sequence[str], longest_s: int) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TICKLESS_"))}
    command = [*entry, "--root", str(root), "train"]
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603  # our own program
        for longest, end in ((longest_s, process.terminate), (STOP_S, process.kill)):
            try:
                return process.wait(longest)
            except subprocess.TimeoutExpired:
                end()
        return process.wait()


def _archive(folder: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.add(folder, arcname=".")
    return content.getvalue()


def _place(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
