"""What the kernel remembers of UDP flows: read from its bytes, and what is said where it cannot tell."""

from __future__ import annotations

import errno
import logging
import socket
from ipaddress import IPv4Address

import pytest

from portway.netlink import codec
from portway.netlink.socket import NetlinkError
from portway.node.flows import Flow, KernelFlows, parse

NODE, POD = IPv4Address("10.100.0.2"), IPv4Address("10.0.1.2")
CLIENT = IPv4Address("198.51.100.10")


def half(source: IPv4Address, source_port: int, to: IPv4Address, port: int, protocol: int = 17) -> bytes:
    """The attributes of one direction of a flow."""
    addresses = codec.nested(1, codec.attr(1, source.packed), codec.attr(2, to.packed))
    return addresses + codec.nested(2, codec.u8(1, protocol), codec.be16(2, source_port), codec.be16(3, port))


def body(asked: bytes, answer: bytes) -> bytes:
    return b"\x02\0\0\0" + codec.nested(1, asked) + codec.nested(2, answer)


TRANSLATED = body(half(CLIENT, 4000, NODE, 53), half(POD, 8080, CLIENT, 4000))


def test_a_flow_says_whom_the_sender_addressed_and_who_answers() -> None:
    (flow,) = parse(TRANSLATED)
    assert flow == Flow((NODE, 53), (POD, 8080), half(CLIENT, 4000, NODE, 53))
    assert flow.rewritten
    (plain,) = parse(body(half(CLIENT, 4000, NODE, 53), half(NODE, 53, CLIENT, 4000)))
    assert not plain.rewritten


@pytest.mark.parametrize(
    ("sentence", "data"),
    [
        ("TCP", body(half(CLIENT, 4000, NODE, 53, 6), half(POD, 8080, CLIENT, 4000, 6))),
        ("one direction only", b"\x02\0\0\0" + codec.nested(1, half(CLIENT, 4000, NODE, 53))),
        ("no addresses of IPv4", body(codec.nested(1, codec.attr(3, b"\0" * 16)), half(POD, 8080, CLIENT, 4000))),
        ("nothing", b"\x02\0\0\0"),
    ],
)
def test_what_is_no_udp_flow_is_passed_over(sentence: str, data: bytes) -> None:
    assert list(parse(data)) == [], sentence


class Kernel:
    """Stands for a netlink socket: lists one flow, and refuses as told."""

    def __init__(self, *, list_error: int = 0, delete_error: int = 0) -> None:
        self.deleted: list[bytes] = []
        self.list_error = list_error
        self.delete_error = delete_error

    def request(self, type_: int, flags: int, body: bytes, what: str) -> list[codec.Message]:
        error = self.list_error if flags else self.delete_error
        if error:
            raise NetlinkError(error, what)
        if flags:
            return [codec.Message(type_, 0, 1, TRANSLATED)]
        self.deleted.append(body)
        return []


def flows(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> KernelFlows:
    made = KernelFlows(socket.socket())
    made.close()
    monkeypatch.setattr(made, "_netlink", kernel)
    return made


def test_a_stale_flow_is_named_by_what_the_sender_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    made = flows(kernel, monkeypatch)
    made.forget(lambda flow: False)
    assert kernel.deleted == []
    made.forget(lambda flow: flow.rewritten)
    assert kernel.deleted == [b"\x02\0\0\0" + codec.nested(1, half(CLIENT, 4000, NODE, 53))]


def test_a_flow_that_ended_meanwhile_is_fine(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    flows(Kernel(delete_error=errno.ENOENT), monkeypatch).forget(lambda flow: True)
    assert caplog.text == ""


@pytest.mark.parametrize("kernel", [Kernel(list_error=errno.EOPNOTSUPP), Kernel(delete_error=errno.EPERM)])
def test_a_kernel_that_cannot_is_reported_and_nothing_breaks(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "portway.node"):
        flows(kernel, monkeypatch).forget(lambda flow: True)
    assert "wait until they time out" in caplog.text
