"""What `doctor` says of the kernel: nothing where all is there, a reason with a cure where something is not."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from build_nft import TABLE, kernel_nft, private_namespace
from portway.netlink.namespace import run_in
from portway.netlink.socket import NETLINK_NETFILTER, NetlinkError, open_netlink
from portway.nft.fake import FakeNft
from portway.nft.features import PROBES, Feature, available, missing_in
from portway.nft.protocol import NftError
from portway.nft.tables import Family, Masquerade, Ruleset
from portway.nft.transaction import Transaction, diff


class Without(FakeNft):
    """A kernel that lacks something."""

    def __init__(self, number: int, refuse: str) -> None:
        super().__init__()
        self._number, self._refuse = number, refuse

    def apply(self, transaction: Transaction) -> None:
        if self._refuse in str(transaction):
            error = NetlinkError(self._number, "add rule")
            raise NftError(str(error)) from error
        super().apply(transaction)


@pytest.fixture
def netfilter() -> Iterator[socket.socket]:
    with private_namespace() as fd:
        sock = run_in(fd, lambda: open_netlink(NETLINK_NETFILTER))
        yield sock
        sock.close()


def test_every_feature_has_a_probe() -> None:
    assert list(PROBES) == list(Feature)


def test_the_probes_are_tables_that_a_whole_kernel_takes() -> None:
    assert missing_in(FakeNft()) == []


def test_probing_leaves_nothing_behind(netfilter: socket.socket) -> None:
    for missing in available(netfilter):
        print(missing)
    with kernel_nft() as nft:
        assert nft.read(Family.IP, "portway-probe") is None
        nft.apply(diff(None, Ruleset(Family.IP, TABLE)))


def test_a_missing_module_is_named_with_its_cure() -> None:
    (missing,) = missing_in(Without(errno.ENOENT, "masquerade"))
    assert missing.feature is Feature.MASQUERADE
    assert "modprobe nft_masq" in str(missing)
    assert Masquerade() in PROBES[Feature.MASQUERADE].chains[0].rules[0].statements


def test_without_nf_tables_nothing_else_is_asked() -> None:
    (missing,) = missing_in(Without(errno.EOPNOTSUPP, "add table"))
    assert missing.feature is Feature.NF_TABLES


def test_a_missing_right_has_another_cure() -> None:
    (missing,) = missing_in(Without(errno.EPERM, "add table"))
    assert "run as root" in missing.cure
