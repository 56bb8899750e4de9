"""A reflector plus our own writes: what a controller reads is never older than what it wrote.

A watch lags a few milliseconds behind an acknowledged write. A controller that looks again in between would create a
second pod. So every write goes through the view, which keeps the answer until the watch has caught up, and tells the
other controllers at once: the scheduler sees a new pod before its watch event arrives. One view per kind is shared by
all controllers (see `world`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from portway.client import ApiError, Change, Client, PatchType, Reflector
from portway.objects.meta import Object

T = TypeVar("T", bound=Object)
Keys = Callable[[T], Iterable[str]]


class View(Generic[T]):
    """`items` by ref; `by(name, key)` through an index that was declared; `leaving` are the uids whose deletion was accepted."""

    def __init__(self, client: Client, kind: type[T], indexes: Mapping[str, Keys[T]] | None = None) -> None:
        self.kind = kind
        self.reflector = Reflector(client, kind)
        self.leaving: set[str] = set()
        self._client = client
        self._items: dict[str, T] = {}
        self._unseen: dict[str, T] = {}
        self._indexes = dict(indexes or {})
        self._index: dict[str, dict[str, dict[str, T]]] = {name: {} for name in self._indexes}
        self._callbacks: list[Callable[[Sequence[Change[T]]], None]] = []
        self.reflector.subscribe(self._read)

    @property
    def items(self) -> Mapping[str, T]:
        return MappingProxyType(self._items)

    def by(self, index: str, key: str) -> tuple[T, ...]:
        return tuple(self._index[index].get(key, {}).values())

    def subscribe(self, callback: Callable[[Sequence[Change[T]]], None]) -> None:
        """Call with every batch of changes; first with what is there already."""
        self._callbacks.append(callback)
        if self._items:
            callback([Change(None, item) for item in self._items.values()])

    def unsubscribe(self, callback: Callable[[Sequence[Change[T]]], None]) -> None:
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def is_leaving(self, item: T) -> bool:
        return item.metadata.deletion_timestamp is not None or item.metadata.uid in self.leaving

    async def create(self, body: dict[str, Any] | T, namespace: str = "") -> T:
        return self._wrote(await self._client.create(self.kind, body, namespace))

    async def patch(self, item: T, body: dict[str, Any], type: PatchType = PatchType.MERGE) -> T:
        """Put `metadata.resourceVersion` into the body when the decision depends on nothing else having changed."""
        return self._wrote(await self._client.patch(self.kind, item.name, body, item.namespace, type=type))

    async def patch_status(self, item: T, status: dict[str, Any], *, guarded: bool = False) -> T:
        """`status` holds the changed fields only. `guarded`: a conflict when the object is no longer the one that was read."""
        body: dict[str, Any] = {"status": status}
        if guarded:
            body["metadata"] = {"resourceVersion": item.metadata.resource_version}
        return self._wrote(await self._client.patch_status(self.kind, item.name, body, item.namespace))

    async def delete(self, item: T, *, grace_seconds: int | None = None, propagation: str = "") -> None:
        """Idempotent: an object that is gone already counts as deleted."""
        meta = item.metadata
        try:
            await self._client.delete(
                self.kind, meta.name, meta.namespace, grace_seconds=grace_seconds, propagation=propagation, uid=meta.uid
            )
        except ApiError as e:
            if not e.not_found:
                raise
        if item.ref in self._items:
            self.leaving.add(meta.uid)

    def _wrote(self, item: T) -> T:
        known = self._items.get(item.ref)
        seen_by_watch = _version(item) <= self.reflector.version
        if seen_by_watch or (known is not None and _version(known) >= _version(item)):
            return item
        self._unseen[item.ref] = item
        self._tell([self._put(item)])
        return item

    def _read(self, changes: Sequence[Change[T]]) -> None:
        """Take a batch of the reflector, except where our own write is newer."""
        told: list[Change[T]] = []
        for change in changes:
            item = change.object
            unseen = self._unseen.get(item.ref)
            if unseen and _version(unseen) > _version(item):
                continue
            self._unseen.pop(item.ref, None)
            if change.new is None:
                self.leaving.discard(item.metadata.uid)
                if item.ref in self._items:
                    told.append(self._drop(item))
            elif unseen is None or _version(unseen) != _version(item):
                told.append(self._put(item))
            if item.metadata.deletion_timestamp:
                self.leaving.discard(item.metadata.uid)
        for ref, unseen in list(self._unseen.items()):
            if _version(unseen) <= self.reflector.version and ref not in self.reflector.items:
                del self._unseen[ref]
                told.append(self._drop(unseen))
        self._tell(told)

    def _put(self, item: T) -> Change[T]:
        old = self._items.get(item.ref)
        if old is not None:
            self._unindex(old)
        self._items[item.ref] = item
        for name, keys in self._indexes.items():
            for key in keys(item):
                self._index[name].setdefault(key, {})[item.ref] = item
        return Change(old, item)

    def _drop(self, item: T) -> Change[T]:
        self._unindex(self._items.pop(item.ref))
        return Change(item, None)

    def _unindex(self, item: T) -> None:
        for name, keys in self._indexes.items():
            for key in keys(item):
                entries = self._index[name].get(key)
                if entries:
                    entries.pop(item.ref, None)
                    if not entries:
                        del self._index[name][key]

    def _tell(self, changes: Sequence[Change[T]]) -> None:
        if changes:
            for callback in tuple(self._callbacks):
                callback(changes)


def _version(item: Object) -> int:
    version = item.metadata.resource_version
    return int(version) if version.isdigit() else 0
