"""The edge's health checks: HTTP requests from its namespace to every node, each a task that ends when nobody needs it.

What a result means is `balancer.health`'s to say; here are the sockets and the tasks. `Checkers.sync` is told which
checks are wanted, and `changed` is called whenever a verdict changes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field

from portway.balancer.health import Condition, Timing, after, pause
from portway.balancer.intent import Check, Instance
from portway.loop.clock import Clock
from portway.netns.kernel import Namespace


async def ask(namespace: Namespace, address: str, check: Check, timeout: float) -> str:
    """ "" when HTTP 200 came within `timeout` seconds, else what was wrong."""
    loop = asyncio.get_running_loop()
    request = f"GET {check.path} HTTP/1.1\r\nHost: {address}:{check.port}\r\nConnection: close\r\n\r\n"
    try:
        with namespace.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            async with asyncio.timeout(timeout):
                await loop.sock_connect(connection, (address, check.port))
                await loop.sock_sendall(connection, request.encode())
                answer = await loop.sock_recv(connection, 64)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except OSError as e:
        return e.strerror or str(e)
    status = answer.split(b"\r\n")[0].decode(errors="replace")
    return "" if status.split()[1:2] == ["200"] else f"answered {status!r}"


@dataclass(slots=True)
class _Checker:
    """One check of one node."""

    address: str
    condition: Condition = field(default_factory=Condition)
    kick: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Checkers:
    """All checks under way, by node and check."""

    def __init__(self, namespace: Namespace, clock: Clock, timing: Timing, changed: Callable[[], None]) -> None:
        self._namespace = namespace
        self._clock = clock
        self._timing = timing
        self._changed = changed
        self._checkers: dict[tuple[str, Check], _Checker] = {}

    @property
    def health(self) -> dict[tuple[str, Check], bool]:
        return {key: bool(c.condition.healthy) for key, c in self._checkers.items()}

    def condition(self, node: str, check: Check) -> Condition:
        found = self._checkers.get((node, check))
        return found.condition if found else Condition()

    def sync(self, instances: Collection[Instance], checks: Collection[Check]) -> None:
        """Start what is missing, end what is not wanted any more; a node with a new address starts anew."""
        wanted = {(i.name, check): str(i.address) for i in instances for check in checks}
        for key in [k for k, c in self._checkers.items() if wanted.get(k) != c.address]:
            self._end(self._checkers.pop(key))
        for key, address in wanted.items():
            if key not in self._checkers:
                made = self._checkers[key] = _Checker(address)
                made.task = asyncio.create_task(self._run(key[1], made), name=f"check {key[0]} {key[1].port}")

    def look_now(self, nodes: Collection[str]) -> None:
        """Something was said about these nodes: do not wait for the interval to end."""
        for (node, _), checker in self._checkers.items():
            if node in nodes:
                checker.kick.set()

    async def stop(self) -> None:
        tasks = [c.task for c in self._checkers.values() if c.task]
        for checker in self._checkers.values():
            self._end(checker)
        self._checkers.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    def _end(checker: _Checker) -> None:
        if checker.task:
            checker.task.cancel()

    async def _run(self, check: Check, checker: _Checker) -> None:
        while True:
            problem = await ask(self._namespace, checker.address, check, self._timing.timeout)
            before = checker.condition
            checker.condition = after(before, problem, self._timing)
            if checker.condition.healthy != before.healthy:
                self._changed()
            await self._rest(checker, pause(checker.condition, self._timing))

    async def _rest(self, checker: _Checker, seconds: float) -> None:
        checker.kick.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.001)):
                await checker.kick.wait()
