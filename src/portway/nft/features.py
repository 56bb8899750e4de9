"""What this kernel's nf_tables lacks of what our tables need: for `portway doctor`, and for `up` before it begins.

`available(sock)` loads one small table for each feature in the network namespace of the socket, which should be a
private one, and removes it again. What the kernel refuses comes back as a named reason with its cure.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from enum import StrEnum

from portway.netlink.socket import NetlinkError
from portway.nft.kernel import KernelNft
from portway.nft.protocol import Nft, NftError
from portway.nft.tables import (
    Base,
    Chain,
    ChainType,
    DnatMap,
    DnatMaps,
    Family,
    Field,
    Hook,
    JHash,
    Masquerade,
    Match,
    Numgen,
    Reject,
    Rule,
    Ruleset,
    Set,
    Statement,
    Type,
    VerdictMap,
)
from portway.nft.transaction import diff

_TABLE = "portway-probe"


class Feature(StrEnum):
    """What our tables need of the kernel."""

    NF_TABLES = "nf_tables"
    IP6 = "tables of the family ip6"
    VERDICT_MAPS = "verdict maps with concatenated keys"
    INTERVAL_SETS = "concatenated keys with address ranges"
    DNAT_MAPS = "destination NAT to a map's value"
    NUMGEN = "random numbers (numgen)"
    JHASH = "hashes of packet fields (hash)"
    FIB = "address types (fib)"
    CONNTRACK = "connection state (ct)"
    MASQUERADE = "masquerade"
    REJECT = "reject"


_CURES = {
    Feature.NF_TABLES: "use a kernel with CONFIG_NF_TABLES, and load it: modprobe nf_tables",
    Feature.IP6: "use a kernel with CONFIG_NF_TABLES_IPV6 and IPv6 not switched off",
    Feature.VERDICT_MAPS: "use a kernel from 5.6 on with CONFIG_NF_TABLES",
    Feature.INTERVAL_SETS: "use a kernel from 5.6 on, where sets of ranges can be concatenated",
    Feature.NUMGEN: "use a kernel with CONFIG_NFT_NUMGEN, and load it: modprobe nft_numgen",
    Feature.JHASH: "use a kernel with CONFIG_NFT_HASH, and load it: modprobe nft_hash",
    Feature.DNAT_MAPS: "use a kernel with CONFIG_NFT_NAT, and load it: modprobe nft_nat nft_chain_nat",
    Feature.FIB: "use a kernel with CONFIG_NFT_FIB_IPV4, and load it: modprobe nft_fib_ipv4",
    Feature.CONNTRACK: "use a kernel with CONFIG_NFT_CT, and load it: modprobe nft_ct",
    Feature.MASQUERADE: "use a kernel with CONFIG_NFT_MASQ, and load it: modprobe nft_masq",
    Feature.REJECT: "use a kernel with CONFIG_NFT_REJECT_IPV4, and load it: modprobe nft_reject_ipv4",
}


@dataclass(frozen=True, slots=True)
class Missing:
    """A feature that is not there, what the kernel said, and what to do."""

    feature: Feature
    kernel_says: str
    cure: str

    def __str__(self) -> str:
        return f"{self.feature} missing: {self.kernel_says}; {self.cure}"


_KEY = (Type.ADDR, Type.PROTO, Type.PORT)
_FIELDS = (Field.DADDR, Field.L4PROTO, Field.DPORT)
_NAT_IN = Base(ChainType.NAT, Hook.PREROUTING, -100)
_NAT_OUT = Base(ChainType.NAT, Hook.POSTROUTING, 100)
_FILTER = Base(ChainType.FILTER, Hook.INPUT, 0)


def _probe(*statements: Statement, sets: tuple[Set, ...] = (), base: Base = _FILTER) -> Ruleset:
    rules = (Rule(statements),) if statements else ()
    return Ruleset(Family.IP, _TABLE, sets, (Chain("probe", rules, base),))


_SLOTS = (*_FIELDS, Numgen(2))
PROBES: dict[Feature, Ruleset] = {
    Feature.NF_TABLES: Ruleset(Family.IP, _TABLE),
    Feature.IP6: Ruleset(Family.IP6, _TABLE),
    Feature.VERDICT_MAPS: _probe(VerdictMap(_FIELDS, "m"), sets=(Set("m", _KEY, (Type.VERDICT,)),)),
    Feature.INTERVAL_SETS: _probe(sets=(Set("s", (*_KEY, Type.ADDR), interval=True),)),
    Feature.DNAT_MAPS: _probe(DnatMap(_FIELDS, "m"), sets=(Set("m", _KEY, (Type.ADDR, Type.PORT)),), base=_NAT_IN),
    Feature.NUMGEN: _probe(
        DnatMap(_SLOTS, "m"), sets=(Set("m", (*_KEY, Type.SLOT), (Type.ADDR, Type.PORT)),), base=_NAT_IN
    ),
    Feature.JHASH: _probe(
        DnatMaps((Field.MARK, JHash((Field.SADDR, Field.SPORT), 7)), "a", _FIELDS, "p"),
        sets=(Set("a", (Type.MARK, Type.SLOT), (Type.ADDR,)), Set("p", _KEY, (Type.PORT,))),
        base=_NAT_IN,
    ),
    Feature.FIB: _probe(Match(Field.FIB_DADDR_TYPE, "local")),
    Feature.CONNTRACK: _probe(Match(Field.CT_STATE, "new")),
    Feature.MASQUERADE: _probe(Masquerade(), base=_NAT_OUT),
    Feature.REJECT: _probe(Reject()),
}


def available(sock: socket.socket) -> list[Missing]:
    """What is missing, in the order of `Feature`; an empty list when all is there.

    Without nf_tables itself nothing else is asked. The socket stays open."""
    return missing_in(KernelNft(sock))


def missing_in(nft: Nft) -> list[Missing]:
    """The same of any holder of tables."""
    missing: list[Missing] = []
    for feature, ruleset in PROBES.items():
        try:
            nft.apply(diff(None, ruleset))
        except NftError as e:
            missing.append(_missing(feature, e))
            if feature is Feature.NF_TABLES:
                break
        else:
            nft.apply(diff(ruleset, None))
    return missing


def _missing(feature: Feature, error: NftError) -> Missing:
    cause = error.__cause__
    if isinstance(cause, NetlinkError) and cause.errno == errno.EPERM:
        cure = "run as root, or let ordinary users make user namespaces: sysctl kernel.unprivileged_userns_clone=1"
        return Missing(feature, str(error), cure)
    return Missing(feature, str(error), _CURES[feature])
