"""What a row of probe results means: thresholds, and the probe's first verdict. Pure; `prober` does the asking.

Source: the API reference of `Probe`. Readiness begins as a failure, liveness as a success, startup as undecided;
liveness and readiness are not asked before startup has passed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from portway.objects.core import Container, IntOrString, Probe


class ProbeKind(StrEnum):
    STARTUP = "Startup"
    READINESS = "Readiness"
    LIVENESS = "Liveness"


class ProbeReason(StrEnum):
    """Why a probe failed: the first word of the sentence that the event carries."""

    STATUS = "HTTP probe failed with statuscode"
    REFUSED = "connection refused or lost"
    TIMEOUT = "timeout"
    COMMAND = "command ended with code"
    PORT = "port not known"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The standing of one probe. `passing` changes only after as many equal results in a row as the threshold asks."""

    kind: ProbeKind
    passing: bool
    decided: bool = False
    successes: int = 0
    failures: int = 0


def first(kind: ProbeKind) -> Verdict:
    return Verdict(kind, passing=kind is ProbeKind.LIVENESS)


def observe(verdict: Verdict, probe: Probe, result: ProbeResult) -> Verdict:
    """The standing after one more result."""
    if result.ok:
        seen = replace(verdict, successes=verdict.successes + 1, failures=0)
        enough = seen.successes >= max(1, probe.success_threshold)
    else:
        seen = replace(verdict, failures=verdict.failures + 1, successes=0)
        enough = seen.failures >= max(1, probe.failure_threshold)
    return replace(seen, passing=result.ok, decided=True) if enough else seen


def fatal(verdict: Verdict) -> bool:
    """Whether the container must be killed for it."""
    return verdict.decided and not verdict.passing and verdict.kind is not ProbeKind.READINESS


def probes_of(container: Container) -> dict[ProbeKind, Probe]:
    named = {
        ProbeKind.STARTUP: container.startup_probe,
        ProbeKind.READINESS: container.readiness_probe,
        ProbeKind.LIVENESS: container.liveness_probe,
    }
    return {kind: probe for kind, probe in named.items() if probe is not None}


def port_number(port: IntOrString, container: Container) -> int | None:
    """The number behind a port that may be named; None when no port of the container has the name."""
    if isinstance(port, int):
        return port
    if port.isdigit():
        return int(port)
    return next((p.container_port for p in container.ports or () if p.name == port), None)
