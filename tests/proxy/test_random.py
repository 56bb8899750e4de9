"""Random clusters: what a packet may reach is what the objects say, read by a second, simpler reading of them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from build_journey import CLIENT, DROPPED, NODE_1_IP, RESET, UNREACHABLE, Ends, arrives, check, host, packet, summary
from build_proxy import CONFIG, endpoint, intents, picture, plain, port, ruleset, service, slice_of
from portway.nft.canonical import canonical
from portway.nft.fake import FakeNft
from portway.nft.text import render
from portway.nft.transaction import diff
from portway.nft.walk import outcomes
from portway.objects.core import Service
from portway.objects.discovery import EndpointConditions, EndpointSlice
from portway.proxy.compile import advance, compile_all, delta, empty

few = settings(max_examples=40, deadline=None)
NUMBERS = {"http": 80, "admin": 9000}
CLIENT_POD = "10.0.1.200"


@dataclass(frozen=True, slots=True)
class Pod:
    """An endpoint as the test draws it: last byte of its address, its conditions, and its number for each port name."""

    last: int
    ready: bool
    serving: bool
    terminating: bool
    ports: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Front:
    """A Service as the test draws it, with one port for each name, all of one protocol."""

    index: int
    protocol: str
    names: tuple[str, ...]
    node_ports: bool
    pods: tuple[Pod, ...]

    @property
    def ref(self) -> str:
        return f"shop/s{self.index}"

    @property
    def ip(self) -> str:
        return f"10.3.240.{self.index + 9}"

    def node_port(self, name: str) -> int:
        return 30000 + self.index * 10 + sorted(NUMBERS).index(name) if self.node_ports else 0

    def objects(self) -> list[Service | EndpointSlice]:
        """Every pod in a slice of its own: the order of slices is one of the things that must not matter."""
        ports = (port(NUMBERS[n], n, self.protocol, self.node_port(n)) for n in self.names)
        return [service(self.ref, self.ip, *ports), *(self._slice(n, p) for n, p in enumerate(self.pods))]

    def _slice(self, number: int, pod: Pod) -> EndpointSlice:
        conditions = EndpointConditions(ready=pod.ready, serving=pod.serving, terminating=pod.terminating)
        return slice_of(
            self.ref,
            endpoint(f"10.0.1.{pod.last}", conditions),
            ports=dict(pod.ports),
            protocol=self.protocol,
            suffix=f"p{number}",
        )

    def reached(self, name: str) -> set[str]:
        """The rule of KEP-1669 in its own words, for one port name."""
        having = [(p, dict(p.ports)[name]) for p in self.pods if name in dict(p.ports)]
        ready = {f"10.0.1.{p.last}:{number}" for p, number in having if p.ready}
        draining = {f"10.0.1.{p.last}:{number}" for p, number in having if p.serving and p.terminating}
        return ready or draining


pods = st.builds(
    Pod,
    last=st.integers(2, 20),
    ready=st.booleans(),
    serving=st.booleans(),
    terminating=st.booleans(),
    ports=st.dictionaries(st.sampled_from(sorted(NUMBERS)), st.sampled_from([8080, 8081])).map(
        lambda d: tuple(d.items())
    ),
)
fronts = st.lists(
    st.builds(
        Front,
        index=st.integers(0, 5),
        protocol=st.sampled_from(["TCP", "UDP", "SCTP"]),
        names=st.sets(st.sampled_from(sorted(NUMBERS)), min_size=1).map(lambda s: tuple(sorted(s))),
        node_ports=st.booleans(),
        pods=st.lists(pods, max_size=5, unique_by=lambda p: p.last).map(tuple),
    ),
    unique_by=lambda f: f.index,
    max_size=4,
)


def expected(front: Front, name: str, *, masqueraded: bool) -> Ends:
    if targets := front.reached(name):
        return arrives(*targets, masqueraded=masqueraded)
    return RESET if front.protocol == "TCP" else UNREACHABLE


@few
@given(fronts)
def test_a_packet_reaches_exactly_whom_the_objects_name(cluster: list[Front]) -> None:
    table = ruleset(*(o for front in cluster for o in front.objects()))
    for front in cluster:
        proto = front.protocol.lower()
        for name in front.names:
            sent = packet(CLIENT_POD, front.ip, NUMBERS[name], proto)
            check("from a pod", table, sent, expected(front, name, masqueraded=False))
            sent = packet(CLIENT, front.ip, NUMBERS[name], proto)
            check("from outside", table, sent, expected(front, name, masqueraded=True))
            if front.node_ports:
                sent = packet(CLIENT, NODE_1_IP, front.node_port(name), proto)
                check("by node port", table, sent, expected(front, name, masqueraded=True))


@few
@given(fronts, st.integers(0, 255), st.integers(1, 65535), st.sampled_from(["tcp", "udp", "sctp"]))
def test_a_packet_to_nowhere_reaches_nobody(cluster: list[Front], last: int, number: int, proto: str) -> None:
    table = ruleset(*(o for front in cluster for o in front.objects()))
    known = {(f.ip, NUMBERS[n], f.protocol.lower()) for f in cluster for n in f.names}
    address = f"10.3.240.{last}"
    if (address, number, proto) in known:
        return
    found = summary(outcomes(table, packet(CLIENT_POD, address, number, proto), host()))
    refused = RESET if proto == "tcp" else UNREACHABLE
    assert found == (refused if address in {f.ip for f in cluster} else DROPPED)


@few
@given(fronts, st.randoms())
def test_the_order_of_objects_does_not_matter(cluster: list[Front], chance: Random) -> None:
    objects = [o for front in cluster for o in front.objects()]
    shuffled = list(objects)
    chance.shuffle(shuffled)
    one, two = ruleset(*objects), ruleset(*shuffled)
    assert plain(one) == plain(two)
    assert render(one) == render(two)


@few
@given(st.lists(fronts, min_size=1, max_size=5))
def test_differences_lead_a_holder_of_tables_to_the_same_place(history: list[list[Front]]) -> None:
    """As the agent does it: one whole table first, then only what changed between neighbours."""
    nft, before = FakeNft(), empty(CONFIG)
    nft.apply(diff(None, before.ruleset))
    for cluster in history:
        wanted = intents(*(o for front in cluster for o in front.objects()))
        changes = {name: tuple(i for i in wanted if i.service == name) for name in {i.service for i in wanted}}
        after = advance(before, {**dict.fromkeys(before.fragments, ()), **changes})
        nft.apply(diff(*delta(before, after)))
        assert nft.read(CONFIG.family, CONFIG.table) == canonical(plain(compile_all(wanted, CONFIG)))
        before = after


@few
@given(fronts)
def test_no_service_makes_a_chain_or_a_set(cluster: list[Front]) -> None:
    table, bare = ruleset(*(o for f in cluster for o in f.objects())), ruleset()
    counts = {len(f.reached(n)) for f in cluster for n in f.names} - {0}
    assert table.sets == bare.sets
    assert len(table.chains) - len(bare.chains) <= 2 * len(counts)


@few
@given(fronts)
def test_every_address_is_seen_once_in_the_picture(cluster: list[Front]) -> None:
    seen = picture(*(o for f in cluster for o in f.objects()))
    assert {IPv4Address(s.spec.cluster_ip) for s in seen.services.values()} == {IPv4Address(f.ip) for f in cluster}
