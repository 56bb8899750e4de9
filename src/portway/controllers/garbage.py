"""Deletes what belongs to something that is gone, by ownerReferences: in the background, in the foreground, or
letting dependents live.

Reads the metadata of every kind that can have owners. An owner that the views do not show is asked for before
anything is deleted. Owners that are being deleted with the finalizer `foregroundDeletion` wait for their dependents;
with `orphan`, dependents lose the reference. Started by `run`; `judge` is the pure half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from portway.client import ApiError, Change, PatchType
from portway.controllers.view import View
from portway.controllers.world import World, each, metadata_of
from portway.loop import Generation, Wake, reconcile
from portway.objects.kinds import by_kind
from portway.objects.meta import Object, OwnerReference

COMPONENT = "garbage-collector"
FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`delete` the dependent, or `drop` these owners (uids) from its references; neither: leave it alone."""

    delete: bool = False
    drop: frozenset[str] = frozenset()
    foreground: bool = False


def judge(owners: Sequence[OwnerReference], gone: frozenset[str], waiting: frozenset[str]) -> Verdict:
    """`gone` are uids that no longer exist, `waiting` those deleted in the foreground. One living owner keeps the dependent."""
    lost = frozenset(o.uid for o in owners if o.uid in gone | waiting)
    if not lost:
        return Verdict()
    if len(lost) == len({o.uid for o in owners}):
        return Verdict(delete=True, foreground=bool(lost & waiting))
    return Verdict(drop=lost)


class Garbage:
    def __init__(self, world: World) -> None:
        self.world = world
        self.wake = Wake()
        self.generation = Generation()
        self._views: dict[str, View[Any]] = {v.kind.KIND: v for v in world.views}
        self._dependents: dict[str, set[str]] = {}
        self._known: dict[str, str] = {}

    async def run(self) -> None:
        callbacks = [(view, self._follower(kind)) for kind, view in self._views.items()]
        for view, callback in callbacks:
            view.subscribe(callback)
        try:
            await reconcile(
                COMPONENT,
                lambda keys: each(keys, self._sync, at_once=self.world.settings.writes_at_once),
                self.wake,
                self.world.clock,
                inputs=[v.reflector.synced for v in self._views.values()],
                generation=self.generation,
            )
        finally:
            for view, callback in callbacks:
                view.unsubscribe(callback)

    def _follower(self, kind: str) -> Any:
        def changed(changes: Sequence[Change[Any]]) -> None:
            for change in changes:
                self._follow(f"{kind}:{change.ref}", change)

        return changed

    def _follow(self, key: str, change: Change[Any]) -> None:
        """Keep the graph; mark a new dependent, the dependents of an owner that goes, and an owner that waits for them."""
        item: Object = change.object
        for owner in (change.old.metadata.owner_references or ()) if change.old else ():
            self._dependents.get(owner.uid, set()).discard(key)
            if change.new is None and self._waits(owner.uid):
                self.wake.mark(self._known[owner.uid])
        if change.new is None:
            self._known.pop(item.metadata.uid, None)
            self.wake.mark(*found) if (found := self._dependents.pop(item.metadata.uid, None)) else None
            return
        self._known[item.metadata.uid] = key
        for owner in item.metadata.owner_references or ():
            self._dependents.setdefault(owner.uid, set()).add(key)
        had = change.old.metadata.owner_references if change.old else None
        if (item.metadata.owner_references or ()) != (had or ()) or _finalizing(item):
            self.wake.mark(key)

    def _item(self, key: str) -> Object | None:
        kind, _, ref = key.partition(":")
        found: Object | None = self._views[kind].items.get(ref)
        return found

    def _waits(self, uid: str) -> bool:
        owner = self._item(self._known[uid]) if uid in self._known else None
        return owner is not None and _finalizing(owner)

    async def _sync(self, key: str) -> None:
        item = self._item(key)
        if item is None:
            return
        if _finalizing(item):
            await self._finalize(key, item)
        owners = item.metadata.owner_references or ()
        if not owners or self._view(key).is_leaving(item):
            return
        gone = frozenset([o.uid for o in owners if o.uid not in self._known and await self._is_gone(item, o)])
        waiting = frozenset(o.uid for o in owners if self._foreground(o.uid))
        verdict = judge(owners, gone, waiting)
        if verdict.delete:
            await self._view(key).delete(item, propagation="Foreground" if verdict.foreground else "Background")
        elif verdict.drop:
            await self._drop(key, item, verdict.drop)

    def _view(self, key: str) -> View[Any]:
        return self._views[key.partition(":")[0]]

    def _foreground(self, uid: str) -> bool:
        owner = self._item(self._known[uid]) if uid in self._known else None
        return owner is not None and _finalizing(owner) and FOREGROUND in (owner.metadata.finalizers or ())

    async def _is_gone(self, item: Object, owner: OwnerReference) -> bool:
        """An owner of a kind that is not served counts as there: we cannot know."""
        kind = by_kind(owner.api_version, owner.kind)
        if kind is None:
            return False
        try:
            there = await self.world.client.get(
                metadata_of(kind), owner.name, item.namespace if kind.namespaced else ""
            )
        except ApiError as e:
            if e.not_found:
                return True
            raise
        return there.metadata.uid != owner.uid

    async def _finalize(self, key: str, owner: Object) -> None:
        dependents = [k for k in self._dependents.get(owner.metadata.uid, set()) if self._item(k) is not None]
        finalizers = owner.metadata.finalizers or ()
        if ORPHAN in finalizers:
            for dependent in dependents:
                if (item := self._item(dependent)) is not None:
                    await self._drop(dependent, item, frozenset({owner.metadata.uid}))
            await self._release(key, owner, ORPHAN)
        elif FOREGROUND in finalizers:
            self.wake.mark(*dependents) if dependents else None
            if not any(self._blocks(k, owner.metadata.uid) for k in dependents):
                await self._release(key, owner, FOREGROUND)

    def _blocks(self, key: str, uid: str) -> bool:
        item = self._item(key)
        return item is not None and any(
            o.uid == uid and o.block_owner_deletion for o in item.metadata.owner_references or ()
        )

    async def _release(self, key: str, owner: Object, finalizer: str) -> None:
        left = [f for f in owner.metadata.finalizers or () if f != finalizer]
        body = {"metadata": {"finalizers": left, "resourceVersion": owner.metadata.resource_version}}
        await self._view(key).patch(owner, body, PatchType.MERGE)

    async def _drop(self, key: str, item: Object, uids: frozenset[str]) -> None:
        kept = [msgspec.to_builtins(o) for o in item.metadata.owner_references or () if o.uid not in uids]
        body = {"metadata": {"ownerReferences": kept, "resourceVersion": item.metadata.resource_version}}
        await self._view(key).patch(item, body)


def _finalizing(item: Object) -> bool:
    finalizers = item.metadata.finalizers or ()
    return item.metadata.deletion_timestamp is not None and (FOREGROUND in finalizers or ORPHAN in finalizers)
