"""The one seam between the API server and the node agents: what `kubectl logs`, `exec` and `attach` ask of a pod.

Everything else goes through objects. `HTTP` in front is `streaming`, which checks the request (pod, container, user)
and speaks WebSocket; behind it stands whoever runs the pods: `portway.node` in the one-machine cluster, a fake in the
tests. In a real cluster this would be the kubelet's port 10250.

Who does what: `PodStreams.logs` yields the bytes exactly as the user shall see them, so it applies `previous`,
`tail_lines`, `since` and `timestamps` (RFC 3339 with nanoseconds, a blank, the line); `limit_bytes` is cut here. A
refusal that the user must read is a `StreamRefused`, raised by `logs` before its first item and by `exec` and `attach`
before they return.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

STDOUT = 1
STDERR = 2


class StreamRefused(Exception):
    """The stream cannot be had; `code` is the HTTP status, the message is shown to the user.

    Kubernetes answers 400 for a container that has not started or has no previous run, 404 for a pod that the node does not know.
    """

    def __init__(self, message: str, code: int = 400) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class PodContainer:
    """One container of one pod. `uid` tells a pod from an earlier one of the same name; `node` is `spec.nodeName`."""

    namespace: str
    pod: str
    uid: str
    node: str
    container: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRequest:
    """`since` is absolute (sinceSeconds is already resolved); None means from the start. `tail_lines` None means all."""

    target: PodContainer
    follow: bool = False
    previous: bool = False
    tail_lines: int | None = None
    since: datetime | None = None
    timestamps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """`command` is empty for attach. With `tty`, everything that the program writes arrives as standard output."""

    target: PodContainer
    command: tuple[str, ...]
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False


class ExecSession(Protocol):
    """A running command. One task reads while another writes."""

    async def read(self) -> tuple[int, bytes] | None:
        """The next output as (STDOUT or STDERR, bytes), or None once both have ended."""

    async def write(self, data: bytes) -> None:
        """Standard input; waits while the program does not read. Bytes for a program that has ended are dropped."""

    async def close_stdin(self) -> None:
        """End of standard input."""

    async def resize(self, width: int, height: int) -> None:
        """The terminal's new size in columns and rows; ignored without a terminal."""

    async def wait(self) -> int:
        """The exit code, 128 + N for signal N. Called after `read` returned None."""

    async def close(self) -> None:
        """The user has gone: end what still runs. Also called after a normal end; may be called twice."""


class PodStreams(Protocol):
    """Whoever runs the pods."""

    def logs(self, request: LogRequest) -> AsyncIterator[bytes]:
        """The log, whole lines or not; with `follow` until the container ends. Closed early (`aclose`) when the user goes."""

    async def exec(self, request: ExecRequest) -> ExecSession:
        """Run a command in a running container. A command that is not there is `StreamRefused`, or exit code 126 or 127."""

    async def attach(self, request: ExecRequest) -> ExecSession:
        """Join the container's own standard streams."""


class NoStreams:
    """What stands here until somebody runs pods: every stream is refused."""

    async def logs(self, request: LogRequest) -> AsyncIterator[bytes]:
        if request.target.pod:
            raise _nobody(request.target)
        yield b""

    async def exec(self, request: ExecRequest) -> ExecSession:
        raise _nobody(request.target)

    async def attach(self, request: ExecRequest) -> ExecSession:
        raise _nobody(request.target)


def _nobody(target: PodContainer) -> StreamRefused:
    return StreamRefused(f"no node agent is connected for pod {target.namespace}/{target.pod}: is the cluster up?", 503)
