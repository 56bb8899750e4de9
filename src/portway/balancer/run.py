"""The balancer's controller: gives addresses to LoadBalancer Services and says in their status how they are.

`run` is what the lab and `portway run balancer` start. One pass looks at all Services, derives the whole map of
addresses (`assign`), asks the provider what stands in the way, and writes what differs: `status.loadBalancer.ingress`, the
condition `LoadBalancerReady`, and an Event whenever the reason changes. All writes of a pass go out side by side; one that
is refused is tried again with back-off by `loop.reconcile`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence

from portway.balancer import assign, status
from portway.balancer.assign import Answer, Assigned, Assignments
from portway.balancer.pools import DEFAULT_POOLS, Address, Pool, checked
from portway.balancer.provider import Announcer
from portway.balancer.reasons import Refused
from portway.balancer.status import Wanted
from portway.client import ApiError, Client, Reflector
from portway.controllers.events import Recorder
from portway.loop import ALL, Clock, Generation, Settings, Wake, reconcile, stamp
from portway.objects.core import Service

log = logging.getLogger("portway.balancer")

COMPONENT = "portway-balancer"
_AT_ONCE = 16
_SETTLE = 0.002


class Controller:
    """What is known between two passes: which address was given to which Service (by uid), written or on its way."""

    def __init__(
        self, client: Client, services: Reflector[Service], announcer: Announcer, recorder: Recorder, clock: Clock,
        *, pools: Sequence[Pool] = DEFAULT_POOLS,
    ) -> None:  # fmt: skip
        self._client = client
        self._services = services
        self._announcer = announcer
        self._recorder = recorder
        self._clock = clock
        self._pools = checked(pools)
        self._given: dict[str, Address] = {}
        self.assignments: Assignments = {}

    async def one_pass(self, _: frozenset[str]) -> Collection[str]:
        services = tuple(self._services.items.values())
        self.assignments = self._assigned(services)
        writes = [(s, w) for s in services if (w := self._wanted(s)) is not None]
        limit = asyncio.Semaphore(_AT_ONCE)
        failed = await asyncio.gather(*(self._write(s, w, limit) for s, w in writes))
        return (ALL,) if any(failed) else ()

    def _assigned(self, services: Sequence[Service]) -> Assignments:
        ours = [s for s in services if assign.is_balanced(s) and assign.is_ours(s)]
        refused = {s.ref: no for s in ours if (no := self._announcer.refuses(s)) is not None}
        asking = [s for s in ours if s.ref not in refused or any(assign.addresses_of(s))]
        wishes = [assign.wish_of(s, self._given.get(s.metadata.uid)) for s in asking]
        answers: dict[str, Answer] = dict(assign.assign(wishes, self._pools))
        for ref, no in refused.items():  # who has an address keeps it while its provider is away
            answers.setdefault(ref, no)
        by_ref = {s.ref: s.metadata.uid for s in ours}
        self._given = {by_ref[ref]: a.address for ref, a in answers.items() if isinstance(a, Assigned)}
        return answers

    def _wanted(self, service: Service) -> Wanted | None:
        """None when the Service is none of our business."""
        known = status.ours(service.status.conditions)
        if not assign.is_balanced(service) and known is None and not service.status.load_balancer.ingress:
            return None
        answer = self.assignments.get(service.ref)
        obstacle: Refused | None = None
        if isinstance(answer, Assigned):
            obstacle = self._announcer.refuses(service) or self._announcer.obstacle(service)
        return status.wanted(service, answer, obstacle)

    async def _write(self, service: Service, want: Wanted, limit: asyncio.Semaphore) -> bool:
        """Whether it must be tried again."""
        body = status.change(service, want, stamp(self._clock.now()))
        if body is None:
            return False
        guarded = {"metadata": {"resourceVersion": service.metadata.resource_version}, "status": body}
        async with limit:
            try:
                await self._client.patch_status(Service, service.name, guarded, service.namespace)
            except ApiError as e:
                if e.not_found:
                    return False
                log.info("the status of Service %s was not written: %s", service.ref, e)
                return True
        self._tell(service, want)
        return False

    def _tell(self, service: Service, want: Wanted) -> None:
        known = status.ours(service.status.conditions)
        if want.reason and (known is None or (known.reason, known.message) != (want.reason, want.message)):
            self._recorder.event(service, want.reason, want.message, component=COMPONENT, warning=not want.ready)


async def run(
    client: Client,
    announcer: Announcer,
    clock: Clock,
    *,
    pools: Sequence[Pool] = DEFAULT_POOLS,
    generation: Generation | None = None,
) -> None:
    """Until cancelled. PoolError when the pools collide. What was given out stays when this ends."""
    services, recorder, wake = Reflector(client, Service), Recorder(client, clock), Wake()
    controller = Controller(client, services, announcer, recorder, clock, pools=pools)
    services.subscribe(lambda _: wake.mark())
    announcer.subscribe(wake.mark)
    wake.mark()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(services.run())
        tasks.create_task(recorder.run())
        await reconcile(
            "balancer",
            controller.one_pass,
            wake,
            clock,
            inputs=(services.synced,),
            generation=generation,
            settings=Settings(settle=_SETTLE),
        )
