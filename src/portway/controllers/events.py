"""Events (`kubectl get events`): what a controller did and why, written beside the work and never in its way.

Controllers call `event(...)`, which returns at once; `run` writes. The same thing said again about the same object
raises the count of the first event instead of making a new one. An event that cannot be written is lost, as in
Kubernetes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from portway.client import ApiError, Client
from portway.loop import Clock, stamp
from portway.objects.core import Event
from portway.objects.kinds import KINDS
from portway.objects.meta import Object

log = logging.getLogger("portway.controllers")
REMEMBERED = 4096
WAITING = 1000
PAUSE = 0.05
"""Seconds between hearing of something and writing it: the writes that matter to a starting pod go first."""
API_VERSIONS = {k.kind: k.api_version for k in KINDS}


@dataclass(frozen=True, slots=True)
class Said:
    """One event before it is written. Equal ones are counted, not repeated."""

    involved: tuple[tuple[str, str], ...]
    type: str
    reason: str
    message: str
    component: str


@dataclass(slots=True)
class Written:
    name: str
    count: int


class Recorder:
    def __init__(self, client: Client, clock: Clock, *, pause: float = PAUSE) -> None:
        self._client = client
        self._clock = clock
        self._pause = pause
        self._queue: asyncio.Queue[Said] = asyncio.Queue(WAITING)
        self._written: OrderedDict[Said, Written] = OrderedDict()
        self._made = 0
        self._idle = True

    def event(self, item: Object, reason: str, message: str, *, component: str, warning: bool = False) -> None:
        said = Said(reference(item), "Warning" if warning else "Normal", reason, message, component)
        try:
            self._queue.put_nowait(said)
        except asyncio.QueueFull:
            log.warning("too many events at once, one is lost: %s %s", reason, message)

    async def run(self) -> None:
        while True:
            said = await self._queue.get()
            if self._pause and self._idle:
                await self._clock.sleep(self._pause)
            try:
                await self._write(said)
            except ApiError as e:
                log.info("an event is lost: %s (%s)", said.message, e)
            finally:
                self._queue.task_done()
                self._idle = self._queue.empty()

    async def flush(self) -> None:
        """Wait until everything said so far is written."""
        await self._queue.join()

    async def _write(self, said: Said) -> None:
        namespace = dict(said.involved).get("namespace") or "default"
        known = self._written.get(said)
        if known:
            known.count += 1
            body = {"count": known.count, "lastTimestamp": stamp(self._clock.now())}
            try:
                await self._client.patch(Event, known.name, body, namespace)
                return
            except ApiError as e:
                if not e.not_found:
                    raise
        made = await self._client.create(Event, self._body(said, namespace), namespace)
        self._written[said] = Written(made.name, 1)
        while len(self._written) > REMEMBERED:
            self._written.popitem(last=False)

    def _body(self, said: Said, namespace: str) -> dict[str, Any]:
        now = self._clock.now()
        self._made += 1
        involved = dict(said.involved)
        return {
            "metadata": {
                "name": f"{involved['name']}.{int(now.timestamp() * 1e6):x}{self._made:x}",
                "namespace": namespace,
            },
            "involvedObject": involved,
            "reason": said.reason,
            "message": said.message,
            "type": said.type,
            "source": {"component": said.component},
            "reportingComponent": said.component,
            "reportingInstance": "",
            "firstTimestamp": stamp(now),
            "lastTimestamp": stamp(now),
            "count": 1,
        }


def reference(item: Object) -> tuple[tuple[str, str], ...]:
    """The fields of an ObjectReference, hashable."""
    meta = item.metadata
    pairs = {
        "kind": item.KIND,
        "apiVersion": item.api_version or API_VERSIONS.get(item.KIND, "v1"),
        "namespace": meta.namespace,
        "name": meta.name,
        "uid": meta.uid,
    }
    return tuple((k, v) for k, v in pairs.items() if v)
