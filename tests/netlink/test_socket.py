"""Requests to the real kernel in a namespace of its own, and to a pair of sockets that plays the kernel."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from build_nft import private_namespace
from portway.netlink import codec
from portway.netlink.namespace import new_namespace, run_in, socket_in
from portway.netlink.socket import NETLINK_ROUTE, Netlink, NetlinkError, open_netlink, parse_error

RTM_GETLINK, RTM_DELLINK = 18, 17
ANY_LINK = bytes(16)


@pytest.fixture
def namespace() -> Iterator[int]:
    with private_namespace() as fd:
        yield fd


@pytest.fixture
def route(namespace: int) -> Iterator[Netlink]:
    netlink = Netlink(run_in(namespace, lambda: open_netlink(NETLINK_ROUTE)))
    yield netlink
    netlink.close()


@pytest.fixture
def played() -> Iterator[tuple[Netlink, socket.socket]]:
    """A `Netlink`, and the other end, on which a test answers in the kernel's place."""
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield Netlink(ours), kernel
    ours.close()
    kernel.close()


def answer(code: int, sequence: int, flags: int = 0, attributes: bytes = b"") -> bytes:
    """An NLMSG_ERROR: the errno (0 is an acknowledgement), and the header of what it answers."""
    body = struct.pack("=i", -code) + codec.message(0, 0, sequence, b"") + attributes
    return codec.message(codec.NLMSG_ERROR, flags, sequence, body)


def test_a_new_namespace_has_one_link(route: Netlink) -> None:
    (link,) = route.request(RTM_GETLINK, codec.NLM_F_DUMP, ANY_LINK, "list links")
    assert codec.attribute_map(link.body, 16)[3] == b"lo\0"


def test_a_refusal_names_the_request_and_the_reason(route: Netlink) -> None:
    with pytest.raises(NetlinkError, match="delete link 99: No such device") as refused:
        route.request(RTM_DELLINK, 0, struct.pack("=BxHiII", 0, 0, 99, 0, 0), "delete link 99")
    assert refused.value.errno == errno.ENODEV


def test_after_a_refusal_the_socket_goes_on(route: Netlink) -> None:
    with pytest.raises(NetlinkError):
        route.request(RTM_DELLINK, 0, struct.pack("=BxHiII", 0, 0, 99, 0, 0), "delete link 99")
    assert len(route.request(RTM_GETLINK, codec.NLM_F_DUMP, ANY_LINK, "list links")) == 1


def test_a_batch_waits_for_its_last_acknowledgement(played: tuple[Netlink, socket.socket]) -> None:
    netlink, kernel = played
    kernel.send(answer(0, 6) + answer(0, 7))
    netlink.batch(b"data", 7, str)
    assert kernel.recv(100) == b"data"


def test_of_many_refusals_the_first_is_raised_and_the_others_are_read(played: tuple[Netlink, socket.socket]) -> None:
    netlink, kernel = played
    for sequence in (5, 6, 7):
        kernel.send(answer(errno.EEXIST, sequence))
    with pytest.raises(NetlinkError, match="message 5: File exists") as refused:
        netlink.batch(b"data", 7, lambda n: f"message {n}")
    assert refused.value.sequence == 5
    kernel.send(answer(0, 8))
    netlink.batch(b"more", 8, str)


def test_the_kernels_own_words_are_in_the_error() -> None:
    message = answer(errno.EINVAL, 3, 0x200, codec.text(1, "Bad thing"))
    (found,) = codec.messages(message)
    error = parse_error(found, "add")
    assert str(error) == f"[Errno {errno.EINVAL}] add: Invalid argument (Bad thing)"


def test_an_acknowledgement_is_no_error() -> None:
    (found,) = codec.messages(answer(0, 3))
    assert parse_error(found, "add") is None


def test_a_batch_that_cannot_be_sent_names_its_size() -> None:
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kernel.close()
    with pytest.raises(NetlinkError, match="apply, 4 bytes"):
        Netlink(ours).batch(b"data", 1, lambda _: "apply")
    ours.close()


def test_an_overrun_is_an_error(played: tuple[Netlink, socket.socket]) -> None:
    netlink, kernel = played
    kernel.send(codec.message(codec.NLMSG_OVERRUN, 0, 2, b""))
    with pytest.raises(NetlinkError, match="buffer"):
        list(netlink.answers(2, str))


def test_work_in_another_namespace_leaves_this_one_alone(namespace: int) -> None:
    def which() -> str:
        return os.readlink("/proc/thread-self/ns/net")

    here = which()
    assert run_in(namespace, which) != here
    assert which() == here


def test_an_error_of_the_work_reaches_the_caller(namespace: int) -> None:
    with pytest.raises(ZeroDivisionError):
        run_in(namespace, lambda: 1 // 0)
    with pytest.raises(OSError, match="setns"):
        run_in(-1, lambda: None)


def test_a_socket_stays_in_the_namespace_where_it_was_made(namespace: int) -> None:
    other = new_namespace()
    try:
        with socket_in(namespace, socket.AF_INET, socket.SOCK_STREAM) as a:
            with socket_in(other, socket.AF_INET, socket.SOCK_STREAM) as b:
                a.bind(("0.0.0.0", 4321))
                b.bind(("0.0.0.0", 4321))
    finally:
        os.close(other)
