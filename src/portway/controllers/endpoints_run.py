"""Keeps EndpointSlices and Endpoints at what the pods of each Service are: reads the shared views, asks `endpoints`,
writes the difference.

This is the first half of the way from a failed readiness probe to a kernel table without that pod, so it gathers
changes for a very short moment. Services without a selector are their users' business. Started by `run`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from portway.client import Change
from portway.controllers import endpoints as pure
from portway.controllers.pods import covers
from portway.controllers.world import NAMESPACE, OWNER, World, all_of, each, mark_changes
from portway.loop import Generation, Settings, Wake, reconcile
from portway.objects.core import Endpoints, Node, Pod, Service
from portway.objects.discovery import MANAGED_BY_LABEL, SERVICE_NAME_LABEL, EndpointSlice

COMPONENT = "endpoint-slice-controller"


class EndpointsController:
    def __init__(self, world: World) -> None:
        self.world = world
        self.wake = Wake()
        self.generation = Generation()

    async def run(self) -> None:
        world = self.world
        services = mark_changes(self.wake, lambda s: (s.ref,))
        pods = mark_changes(self.wake, self._services_of)
        slices = mark_changes(self.wake, _service_of)
        endpoints = mark_changes(self.wake, lambda e: (e.ref,))
        world.services.subscribe(services)
        world.pods.subscribe(pods)
        world.slices.subscribe(slices)
        world.endpoints.subscribe(endpoints)
        world.nodes.subscribe(self._nodes_changed)
        views = (world.services, world.pods, world.slices, world.endpoints, world.nodes)
        try:
            await reconcile(
                COMPONENT,
                lambda keys: each(keys, self._sync, at_once=world.settings.writes_at_once),
                self.wake,
                world.clock,
                inputs=[v.reflector.synced for v in views],
                generation=self.generation,
                settings=Settings(settle=0.001),
            )
        finally:
            world.services.unsubscribe(services)
            world.pods.unsubscribe(pods)
            world.slices.unsubscribe(slices)
            world.endpoints.unsubscribe(endpoints)
            world.nodes.unsubscribe(self._nodes_changed)

    def _services_of(self, pod: Pod) -> Iterable[str]:
        found = self.world.services.by(NAMESPACE, pod.namespace)
        return tuple(s.ref for s in found if covers(s.spec.selector, pod.labels))

    def _nodes_changed(self, changes: Sequence[Change[Node]]) -> None:
        """Only the zone of a node is in a slice."""
        if any((c.old and c.old.labels.get(pure.ZONE)) != (c.new and c.new.labels.get(pure.ZONE)) for c in changes):
            self.wake.mark(*self.world.services.items)

    async def _sync(self, ref: str) -> None:
        service = self.world.services.items.get(ref)
        if service is None or service.metadata.deletion_timestamp:
            await self._forget(ref)
            return
        if not service.spec.selector or service.spec.type == "ExternalName":
            return
        namespace = self.world.pods.by(NAMESPACE, service.namespace)
        pods = [p for p in namespace if covers(service.spec.selector, p.labels)]
        await all_of((self._write_slices(service, pods), self._write_endpoints(service, pods)))

    def _slices(self, service: Service) -> list[EndpointSlice]:
        owned = self.world.slices.by(OWNER, service.metadata.uid)
        return [s for s in owned if _is_ours(s) and not self.world.slices.is_leaving(s)]

    async def _write_slices(self, service: Service, pods: list[Pod]) -> None:
        view, existing = self.world.slices, self._slices(service)
        size = self.world.settings.endpoints_per_slice
        plan = pure.slices(service, pods, self.world.nodes.items, existing, size)
        by_name = {s.name: s for s in existing}
        for body in plan.create:
            await view.create(body, service.namespace)
        for name, patch in plan.update:
            await view.patch(by_name[name], patch)
        for name in plan.delete:
            await view.delete(by_name[name])

    async def _write_endpoints(self, service: Service, pods: list[Pod]) -> None:
        body, view = pure.endpoints(service, pods), self.world.endpoints
        known = view.items.get(service.ref)
        if known is None or view.is_leaving(known):
            await view.create(body, service.namespace)
        elif _differs(known, body):
            gone = {k: None for k in known.labels if k not in body["metadata"]["labels"]}
            annotations = body["metadata"].get("annotations") or (
                {pure.OVER_CAPACITY: None} if pure.OVER_CAPACITY in known.annotations else {}
            )
            metadata = {"labels": gone | body["metadata"]["labels"], "annotations": annotations}
            await view.patch(known, {"metadata": metadata, "subsets": body["subsets"]})

    async def _forget(self, ref: str) -> None:
        """Endpoints have no owner reference, in Kubernetes neither: they go with the Service of their name, if they are ours."""
        known = self.world.endpoints.items.get(ref)
        if (
            known is not None
            and pure.ENDPOINTS_MANAGED_BY in known.labels
            and not self.world.endpoints.is_leaving(known)
        ):
            await self.world.endpoints.delete(known)


def _service_of(piece: EndpointSlice) -> Iterable[str]:
    return (f"{piece.namespace}/{piece.labels.get(SERVICE_NAME_LABEL, '')}",) if _is_ours(piece) else ()


def _is_ours(piece: EndpointSlice) -> bool:
    return piece.labels.get(MANAGED_BY_LABEL) == pure.MANAGER


def _differs(known: Endpoints, body: dict[str, object]) -> bool:
    wanted = msgspec.convert(body, Endpoints)
    same_annotation = known.annotations.get(pure.OVER_CAPACITY) == wanted.annotations.get(pure.OVER_CAPACITY)
    return not ((known.subsets or ()) == (wanted.subsets or ()) and known.labels == wanted.labels and same_annotation)
