"""Empties a namespace that is being deleted, then lets it go: delete everything in it, wait until it is gone, drop
its finalizer.

The API server sets the deletion timestamp and the phase Terminating and refuses new objects; this is the other half.
Kinds that no controller watches are listed by their metadata. Started by `run`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from portway.client import ApiError, Select
from portway.controllers.world import World, each, mark_changes, metadata_of
from portway.loop import Backoff, Generation, Settings, Wake, reconcile
from portway.objects.core import Namespace, Pod
from portway.objects.kinds import KINDS, Kind
from portway.objects.meta import Object

COMPONENT = "namespace-controller"
FINALIZER = "kubernetes"


class Namespaces:
    def __init__(self, world: World) -> None:
        self.world = world
        self.wake = Wake()
        self.generation = Generation()

    async def run(self) -> None:
        world = self.world
        on_namespace = mark_changes(self.wake, lambda n: (n.name,) if _ending(n) else ())
        on_pod = mark_changes(self.wake, self._emptied)
        world.namespaces.subscribe(on_namespace)
        world.pods.subscribe(on_pod)
        try:
            await reconcile(
                COMPONENT,
                self._pass,
                self.wake,
                world.clock,
                inputs=(world.namespaces.reflector.synced,),
                generation=self.generation,
                settings=Settings(backoff=lambda: Backoff(first=0.1, most=2.0)),
            )
        finally:
            world.namespaces.unsubscribe(on_namespace)
            world.pods.unsubscribe(on_pod)

    def _emptied(self, pod: Pod) -> Iterable[str]:
        """A pod that goes may have been the last."""
        namespace = self.world.namespaces.items.get(pod.namespace)
        return (pod.namespace,) if namespace is not None and _ending(namespace) else ()

    async def _pass(self, keys: frozenset[str]) -> frozenset[str]:
        waiting: set[str] = set()

        async def sync(name: str) -> None:
            namespace = self.world.namespaces.items.get(name)
            if namespace is None or not _ending(namespace):
                return
            if sum([await self._empty(kind, name) for kind in KINDS if kind.namespaced]):
                waiting.add(name)
            else:
                await self._let_go(namespace)

        return await each(keys, sync) | waiting

    async def _empty(self, kind: Kind, namespace: str) -> int:
        """Ask for the deletion of all objects of the kind; how many there were. Zero: nothing is left."""
        struct = metadata_of(kind)
        items = (await self.world.client.list(struct, Select(namespace))).items
        for item in items:
            if item.metadata.deletion_timestamp is None:
                await self._delete(struct, item)
        return len(items)

    async def _delete(self, struct: type[Object], item: Object) -> None:
        try:
            await self.world.client.delete(struct, item.name, item.namespace, propagation="Background")
        except ApiError as e:
            if not e.not_found:
                raise

    async def _let_go(self, namespace: Namespace) -> None:
        left = tuple(f for f in namespace.spec.finalizers or () if f != FINALIZER)
        spec = msgspec.structs.replace(namespace.spec, finalizers=left)
        try:
            await self.world.client.finalize(msgspec.structs.replace(namespace, spec=spec))
        except ApiError as e:
            if not e.not_found:
                raise


def _ending(namespace: Namespace) -> bool:
    return namespace.metadata.deletion_timestamp is not None
