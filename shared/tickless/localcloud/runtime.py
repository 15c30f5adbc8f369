"""What the Lambda service does around a handler: environment, context, standard output, errors, warm starts."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tickless.errors import InputError

Handler = Callable[[Any, "Context"], Any]


@dataclass(frozen=True)
class FunctionConfiguration:
    """A function as the stack created it."""

    name: str
    """The physical name."""
    arn: str
    handler: str
    timeout_s: int
    memory_mb: int
    environment: Mapping[str, str]

    @property
    def service(self) -> str:
        """The folder under ``functions/`` that holds its code: the Powertools service name, else the physical name."""
        return self.environment.get("POWERTOOLS_SERVICE_NAME", self.name)


class Context:
    """The context object a Lambda handler gets."""

    def __init__(self, configuration: FunctionConfiguration, request_id: str) -> None:
        self.function_name = configuration.name
        self.function_version = "$LATEST"
        self.invoked_function_arn = configuration.arn
        self.memory_limit_in_mb = configuration.memory_mb
        self.aws_request_id = request_id
        self.log_group_name = f"/aws/lambda/{configuration.name}"
        self.log_stream_name = "local"
        self._deadline = time.monotonic() + configuration.timeout_s

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds left of the function's time-out, on the real clock."""
        return max(0, round((self._deadline - time.monotonic()) * 1000))


@dataclass(frozen=True)
class FunctionError:
    """An exception that left a handler."""

    type: str
    message: str
    exception: BaseException

    def payload(self, request_id: str) -> dict[str, Any]:
        """What Lambda answers to a caller."""
        trace = traceback.format_list(traceback.extract_tb(self.exception.__traceback__))
        return {"errorMessage": self.message, "errorType": self.type, "requestId": request_id, "stackTrace": trace}


@dataclass(frozen=True)
class EmittedMetric:
    """One metric of a line in CloudWatch's embedded metric format."""

    namespace: str
    name: str
    values: tuple[float, ...]
    unit: str
    dimensions: Mapping[str, str]


@dataclass(frozen=True)
class InvocationResult:
    """What one invocation gave back and wrote."""

    function: str
    request_id: str
    payload: Any
    """The handler's answer as a caller sees it: after JSON; Lambda's error object where it failed."""
    error: FunctionError | None
    logs: tuple[str, ...]
    """The lines on standard output, metrics included."""
    metrics: tuple[EmittedMetric, ...]
    seconds: float

    def metric(self, name: str) -> float | None:
        """The sum of a metric's values in this invocation; None where it was not emitted."""
        values = [value for metric in self.metrics if metric.name == name for value in metric.values]
        return sum(values) if values else None


class _Output(io.TextIOBase):
    """Standard output of handlers. Loggers keep it for the life of the process, so it stays one object and is pointed elsewhere."""

    def __init__(self) -> None:
        self._captures: list[list[str]] = []

    def write(self, text: str) -> int:
        if self._captures:
            self._captures[-1].append(text)
        elif sys.stdout is not self:
            sys.stdout.write(text)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    @contextmanager
    def captured(self) -> Iterator[list[str]]:
        parts: list[str] = []
        before, sys.stdout = sys.stdout, self
        self._captures.append(parts)
        try:
            yield parts
        finally:
            self._captures.pop()
            sys.stdout = before


_OUTPUT = _Output()


class Runtime:
    """Imports handlers once and calls them as Lambda does."""

    def __init__(self, functions_dir: Path, region: str) -> None:
        self._functions_dir = functions_dir
        self._region = region
        self._warm: dict[str, Handler] = {}
        self._invocations = 0

    def invoke(self, configuration: FunctionConfiguration, event: Any, *, cold: bool = False, retry_of: str = "") -> InvocationResult:
        """Call a function's handler with ``event`` after a round trip through JSON; ``retry_of`` is the request id that a retry keeps.

        An exception of the handler, of its import or of its answer's JSON is in the result, never raised.
        Raises InputError where the function's code is missing.
        """
        self._invocations += 1
        request_id = retry_of or f"00000000-0000-4000-8000-{self._invocations:012x}"
        path, attribute = self._source(configuration)
        if cold:
            self._warm.pop(configuration.name, None)
        error, payload = None, None
        started = time.perf_counter()
        with _environment(self._variables(configuration)), _OUTPUT.captured() as parts:
            try:
                if configuration.name not in self._warm:
                    self._warm[configuration.name] = _import_handler(path, attribute, configuration.name)
                answer = self._warm[configuration.name](json.loads(json.dumps(event)), Context(configuration, request_id))
                payload = json.loads(json.dumps(answer))
            except (Exception, SystemExit) as failure:  # as Lambda does: whatever leaves a handler is its error
                error = FunctionError(type(failure).__name__, str(failure), failure)
                payload = error.payload(request_id)
        lines = tuple("".join(parts).splitlines())
        seconds = time.perf_counter() - started
        return InvocationResult(configuration.service, request_id, payload, error, lines, tuple(parse_metrics(lines)), seconds)

    def _source(self, configuration: FunctionConfiguration) -> tuple[Path, str]:
        module, _, attribute = configuration.handler.rpartition(".")
        path = self._functions_dir / configuration.service / f"{module.replace('.', '/').rpartition('/')[2]}.py"
        if not path.is_file():
            raise InputError(f"function {configuration.name}: {path} does not exist")
        return path, attribute

    def _variables(self, configuration: FunctionConfiguration) -> dict[str, str]:
        return {
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
            "AWS_LAMBDA_FUNCTION_NAME": configuration.name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration.memory_mb),
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{configuration.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": "local",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            **configuration.environment,
        }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _import_handler(path: Path, attribute: str, name: str) -> Handler:
    spec = importlib.util.spec_from_file_location(f"_lambda_{name.replace('-', '_')}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler: Handler = getattr(module, attribute)
    return handler


def parse_metrics(lines: tuple[str, ...]) -> Iterator[EmittedMetric]:
    """The metrics in lines of CloudWatch's embedded metric format; other lines are passed over."""
    for line in lines:
        if '"_aws"' not in line:
            continue
        try:
            content = json.loads(line)
            directives = content["_aws"]["CloudWatchMetrics"]
        except (ValueError, KeyError, TypeError):
            continue
        for directive in directives:
            names = directive["Dimensions"][0] if directive.get("Dimensions") else []
            dimensions = {name: str(content[name]) for name in names if name in content}
            for metric in directive["Metrics"]:
                value = content[metric["Name"]]
                values = tuple(float(v) for v in value) if isinstance(value, list) else (float(value),)
                yield EmittedMetric(directive["Namespace"], metric["Name"], values, metric.get("Unit", "None"), dimensions)
