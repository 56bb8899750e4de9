"""Starts all controllers over one set of shared views, and starts one again that fails.

    await run(client, Settings(node_grace=4), SystemClock())      # until cancelled

The lab's supervisor calls it. A controller that fails is logged and started again after a back-off, with the views it
had: it subscribes anew and is shown everything that is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from portway.client import Client
from portway.controllers.deployment_run import Deployments
from portway.controllers.endpoints_run import EndpointsController
from portway.controllers.evictions_run import Evictions
from portway.controllers.garbage import Garbage
from portway.controllers.namespaces import Namespaces
from portway.controllers.nodes_run import Nodes
from portway.controllers.replicaset_run import ReplicaSets
from portway.controllers.scheduler_run import Scheduler
from portway.controllers.world import Settings, World
from portway.loop import Backoff, Clock, SystemClock

log = logging.getLogger("portway.controllers")


class Runs(Protocol):
    async def run(self) -> None: ...


CONTROLLERS: tuple[Callable[[World], Runs], ...] = (
    Nodes,
    Scheduler,
    ReplicaSets,
    Deployments,
    EndpointsController,
    Evictions,
    Garbage,
    Namespaces,
)


async def run(client: Client, config: Settings | None = None, clock: Clock | None = None) -> None:
    """All controllers, until cancelled."""
    await run_world(World(client, clock or SystemClock(), config or Settings()))


async def run_world(world: World) -> None:
    async with asyncio.TaskGroup() as tasks:
        for view in world.views:
            tasks.create_task(view.reflector.run(), name=f"watch {view.kind.KIND}")
        tasks.create_task(supervise("events", world.recorder.run, world.clock), name="events")
        for controller in CONTROLLERS:
            tasks.create_task(
                supervise(getattr(controller, "__name__", "controller"), _started(controller, world), world.clock)
            )


def _started(controller: Callable[[World], Runs], world: World) -> Callable[[], Awaitable[None]]:
    return lambda: controller(world).run()


async def supervise(
    name: str, work: Callable[[], Awaitable[None]], clock: Clock, backoff: Backoff | None = None
) -> None:
    """Run `work` again and again; what it raises is logged, and the next start waits for the back-off."""
    waits = backoff or Backoff(first=0.1, most=30.0)
    while True:
        started = clock.monotonic()
        try:
            await work()
        except Exception:  # the supervisor: one controller's bug must not stop the others
            if clock.monotonic() - started > 60:
                waits.reset()
            wait = waits.next()
            log.exception("the controller %s failed and is started again in %.1f s", name, wait)
            await clock.sleep(wait)
