"""Opens and closes host ports in the kernel: keeps the table of `hostports` as the node's pods want it.

`pod` calls `open` before a pod's containers start and `close` when it goes; each is one small transaction at once, so a
port never leads to a pod that is gone. What the kernel refuses at an `open` is that pod's problem, which is tried again
with the pod; what it refuses at a `close` is tried again by `run`. `adopt` at the start takes over the table of an
earlier agent, whose pods are gone. `agent` owns the one of its node.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from portway.loop import Clock, Wake, reconcile
from portway.nft.operations import DeleteTable
from portway.nft.protocol import Nft, NftError
from portway.nft.tables import Family, Ruleset
from portway.nft.transaction import Transaction, diff
from portway.node.flows import Flows
from portway.node.hostports import TABLE, PodPorts, compile_ports

log = logging.getLogger("portway.node")


class PortOpener:
    def __init__(self, nft: Nft, flows: Flows) -> None:
        self._nft = nft
        self._flows = flows
        self._pods: dict[str, PodPorts] = {}
        self._loaded: Ruleset | None = None
        self._wake = Wake()

    def adopt(self) -> None:
        """Make the table, or empty the one that is there. A node that cannot still runs pods without host ports."""
        self._try_or_later()

    def open(self, uid: str, ports: PodPorts) -> None:
        """Raises NftError, and then nothing is open."""
        self._pods[uid] = ports
        try:
            self._sync()
        except NftError:
            del self._pods[uid]
            raise
        if numbers := udp_ports(ports):
            self._flows.forget(lambda flow: not flow.rewritten and flow.asked[1] in numbers)

    def close(self, uid: str) -> None:
        """Nothing open for `uid` is fine."""
        ports = self._pods.pop(uid, None)
        if ports is None:
            return
        self._try_or_later()
        if numbers := udp_ports(ports):
            self._flows.forget(lambda flow: flow.answers[0] == ports.address and flow.asked[1] in numbers)

    def stop(self) -> None:
        """Give the netlink sockets back; the table stays for the next agent."""
        self._nft.close()
        self._flows.close()

    async def run(self, clock: Clock) -> None:
        """Until cancelled: try again what the kernel refused."""

        async def one_pass(keys: frozenset[str]) -> Collection[str]:
            return () if self._try() else keys

        await reconcile("host ports", one_pass, self._wake, clock)

    def _try_or_later(self) -> None:
        if not self._try():
            self._wake.mark()

    def _try(self) -> bool:
        try:
            self._sync()
        except NftError as e:
            log.warning("the host ports were not changed: %s", e)
            return False
        return True

    def _sync(self) -> None:
        wanted = compile_ports(self._pods.values())
        if transaction := self._transaction(wanted):
            self._loaded = None
            self._nft.apply(transaction)
        self._loaded = wanted

    def _transaction(self, wanted: Ruleset) -> Transaction:
        if self._loaded is not None:
            return diff(self._loaded, wanted)
        try:
            return diff(self._nft.read(Family.IP, TABLE), wanted)
        except NftError as e:
            log.warning("the table %s is replaced as a whole, because it cannot be read: %s", TABLE, e)
            return Transaction(wanted.family, wanted.name, (DeleteTable(), *diff(None, wanted).operations))


def udp_ports(ports: PodPorts) -> frozenset[int]:
    return frozenset(p.port for p in ports.ports if p.protocol == "udp")


def cleanup(nft: Nft) -> None:
    """Remove the table, whatever is in it; nothing happens when there is none. Raises NftError when that is refused."""
    try:
        transaction = diff(nft.read(Family.IP, TABLE), None)
    except NftError:
        transaction = Transaction(Family.IP, TABLE, (DeleteTable(),))
    if transaction:
        nft.apply(transaction)
