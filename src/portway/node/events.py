"""Events of a node and its pods, as `kubectl describe` shows them: written in the background, equal ones counted
instead of repeated.

Called by `pod` and `agent` with `record`; `run` writes. An event that cannot be written is lost, with a line in the
log: events tell a story, nothing depends on them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass

from portway.client import ApiError, Client
from portway.loop import Clock, stamp
from portway.objects.core import Event, EventSource
from portway.objects.meta import Object, ObjectMeta, ObjectReference

log = logging.getLogger("portway.node")
_COMPONENT = "kubelet"  # what kubectl users expect to see in the column FROM
_REMEMBERED = 512


@dataclass(slots=True)
class _Known:
    name: str
    count: int


class Recorder:
    def __init__(self, client: Client, node: str, clock: Clock) -> None:
        self._client = client
        self._node = node
        self._clock = clock
        self._queue: asyncio.Queue[tuple[ObjectReference, str, str, str]] = asyncio.Queue()
        self._known: dict[tuple[str, str, str], _Known] = {}

    def record(self, about: Object, reason: str, message: str, *, warning: bool = False, field_path: str = "") -> None:
        reference = ObjectReference(
            kind=about.KIND,
            namespace=about.namespace,
            name=about.name,
            uid=about.metadata.uid,
            api_version="v1",
            field_path=field_path,
        )
        self._queue.put_nowait((reference, "Warning" if warning else "Normal", reason, message))

    async def run(self) -> None:
        while True:
            entry = await self._queue.get()
            try:
                await self._write(*entry)
            except ApiError as e:
                log.info("event %s of %s was lost: %s", entry[2], entry[0].name, e)

    async def _write(self, about: ObjectReference, type_: str, reason: str, message: str) -> None:
        now, key = stamp(self._clock.now()), (about.uid + about.field_path, reason, message)
        namespace = about.namespace or "default"
        known = self._known.get(key)
        if known is not None:
            known.count += 1
            try:
                await self._client.patch(Event, known.name, {"count": known.count, "lastTimestamp": now}, namespace)
                return
            except ApiError as e:
                if not e.not_found:
                    raise
        known = _Known(f"{about.name}.{os.urandom(8).hex()}", 1)
        event = Event(
            metadata=ObjectMeta(name=known.name, namespace=namespace),
            involved_object=about,
            reason=reason,
            message=message,
            type=type_,
            source=EventSource(component=_COMPONENT, host=self._node),
            count=1,
            first_timestamp=now,
            last_timestamp=now,
            reporting_component=_COMPONENT,
            reporting_instance=self._node,
        )
        await self._client.create(Event, event, namespace)
        self._known[key] = known
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
