"""`measure`: how many DNS queries a second one agent of names answers on one core, and what a change costs.

The server runs in this process on 127.0.0.1, with the records of many Services; a second process keeps a window of queries
on their way and checks every answer's identifier and status. `hits` asks for Services by their full name; `search` is what
a pod's resolver really sends for a short name: the search list, A and AAAA, so that most answers are "there is none".

    portway bench dns --services 1000 --seconds 3
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from portway.dns import compile as zones
from portway.dns import records, wire
from portway.dns.config import DnsConfig
from portway.dns.intent import service_records
from portway.dns.records import Record, Type
from portway.dns.server import Server, listen
from portway.dns.upstream import Upstream
from portway.objects.core import Service, ServicePort, ServiceSpec
from portway.objects.meta import ObjectMeta

_ASK = """
import json, socket, sys, time
host, port, seconds, window = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), 64
queries = [bytes.fromhex(line) for line in sys.stdin.read().split()]
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.connect((host, port)); link.settimeout(0.2)
sent = answered = lost = wrong = at = 0
end = time.monotonic() + seconds
def ask():
    global at, sent
    link.send(at.to_bytes(4, "big")[2:] + queries[at % len(queries)]); at += 1; sent += 1
for _ in range(window): ask()
while time.monotonic() < end:
    try:
        got = link.recv(4096)
    except TimeoutError:
        lost += sent - answered
        for _ in range(window): ask()
        continue
    answered += 1
    wrong += got[3] & 15 not in (0, 3)
    ask()
print(json.dumps({"answered": answered, "lost": lost, "wrong": wrong}))
"""


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` is by the clock, `per_cpu_second` what one core would do without the asking process beside it."""

    per_second: int
    per_cpu_second: int
    lost: int
    wrong: int


@dataclass(frozen=True, slots=True)
class Figures:
    services: int
    compile_s: float
    change_ms: float
    hits: Rate
    search: Rate


def made_up_services(count: int) -> Iterator[Service]:
    for number in range(count):
        ports = (ServicePort(name="http", port=80), ServicePort(name="https", port=443))
        spec = ServiceSpec(cluster_ip=f"10.3.{240 + number // 250 % 16}.{number % 250}", ports=ports)
        yield Service(metadata=ObjectMeta(name=f"web-{number}", namespace=f"shop-{number % 10}"), spec=spec)


def measure(services: int = 1000, seconds: float = 3.0) -> Figures:
    """Compile, change one Service a hundred times, then serve both mixes for `seconds` each."""
    config = DnsConfig()
    objects = list(made_up_services(services))
    wanted = {s.ref: service_records(s, (), config) for s in objects}
    started = time.perf_counter()
    zone = zones.compile_all(wanted, config)
    compiled = time.perf_counter() - started
    names = [f"{s.name}.{s.namespace}.svc.cluster.local" for s in objects]
    hits = [wire.question(records.name(name), Type.A)[2:] for name in names]
    search = [
        wire.question(records.name(f"{s.name}.{s.namespace}{suffix}"), type_)[2:]
        for s in objects
        for suffix in (f".{s.namespace}.svc.cluster.local", ".svc.cluster.local")
        for type_ in (Type.A, Type.AAAA)
    ]
    rates = [asyncio.run(_rate(zone, queries, seconds)) for queries in (hits, search)]
    return Figures(services, round(compiled, 3), round(_change_ms(zone, wanted), 3), *rates)


def _change_ms(zone: zones.Zone, wanted: dict[str, tuple[Record, ...]]) -> float:
    """The median of removing and adding a Service again."""
    took = []
    for ref, known in list(wanted.items())[:100]:
        for change in ((), known):
            started = time.perf_counter()
            zone = zones.advance(zone, {ref: change})
            took.append(time.perf_counter() - started)
    return statistics.median(took) * 1000


async def _rate(zone: zones.Zone, queries: list[bytes], seconds: float) -> Rate:
    sockets = listen("127.0.0.1", 0)
    server = Server(sockets, lambda: zone, Upstream((), lambda kind: socket.socket(socket.AF_INET, kind)))
    await server.start()
    try:
        port = str(sockets.udp.getsockname()[1])
        asking = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-c", _ASK, "127.0.0.1", port, str(seconds), stdin=-1, stdout=-1
        )
        used = time.process_time()
        out, _ = await asking.communicate("\n".join(q.hex() for q in queries).encode())
        used = time.process_time() - used
    finally:
        await server.close()
        sockets.close()
    said = json.loads(out)
    answered = said["answered"]
    return Rate(round(answered / seconds), round(answered / used), said["lost"], said["wrong"])
