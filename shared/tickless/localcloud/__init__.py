"""The local AWS: the synthesized template created on moto, its functions run for real, its schedules fired on a simulated clock."""

from tickless.localcloud.assembly import Assembly, ensure_assembly, load_assembly
from tickless.localcloud.cloud import AsyncPolicy, LocalCloud
from tickless.localcloud.cron import Cron, fire_times, parse_cron
from tickless.localcloud.runtime import EmittedMetric, FunctionConfiguration, FunctionError, InvocationResult
from tickless.localcloud.scheduler import Firing, LocalScheduler, Schedule, SettableClock, read_schedules

__all__ = [
    "Assembly",
    "AsyncPolicy",
    "Cron",
    "EmittedMetric",
    "Firing",
    "FunctionConfiguration",
    "FunctionError",
    "InvocationResult",
    "LocalCloud",
    "LocalScheduler",
    "Schedule",
    "SettableClock",
    "ensure_assembly",
    "fire_times",
    "load_assembly",
    "parse_cron",
    "read_schedules",
]
