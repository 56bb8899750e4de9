"""Why a program with hostNetwork ended: the port that it wanted was taken, and by whom.

A port of the node's own network belongs to whoever listens first, declared or not; the kernel tells the second one only
"address already in use". `containers` calls `explanation` when such a container ends with an error: the program's own
words from its log, and the holder as found in the node's socket tables and /proc. Nothing here decides anything; what
cannot be read is left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from portway.cluster.hostports import HostPort
from portway.netns.kernel import Namespace, NetworkError
from portway.node.logs import parse
from portway.objects.core import Container, Pod

_COMPLAINT = re.compile(
    r"address already in use|EADDRINUSE|port (?:\d+ )?is (?:already )?(?:in use|taken)", re.IGNORECASE
)
_NUMBER = re.compile(r":(\d{1,5})\b")
_TAIL = 16 << 10
_LONGEST = 300
_LISTENS = {"tcp": "0A", "udp": "07"}
_LOG = re.compile(r"/pods/([^/]+)/logs/([^/]+)/\d+\.log$")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who listens: a pod's uid and container (empty when it has several), or else a process of the node."""

    uid: str = ""
    container: str = ""
    pid: int = 0
    program: str = ""


def explanation(container: Container, log: Path | None, network: Namespace, node: str, pods: Mapping[str, Pod]) -> str:
    """One sentence for the event and for the container's status; empty when the program complained of no busy port.

    Looks into files of the machine: call it in a thread. `pods` are those of the node, by uid."""
    words = complaint(_tail(log)) if log is not None else ""
    if not words:
        return ""
    ports = wanted(container, words)
    found = holders(network, ports)
    held = [f"port {port} of node {node} is held by {_who(found[port], pods)}" for port in ports if port in found]
    return "; ".join([words, *held])


def complaint(log: bytes) -> str:
    """The last line of a container's log that speaks of a busy port."""
    for line in reversed(log.splitlines()):
        entry = parse(line)
        text = entry.text.decode(errors="replace").strip() if entry else ""
        if _COMPLAINT.search(text):
            return text[:_LONGEST]
    return ""


def wanted(container: Container, words: str) -> tuple[HostPort, ...]:
    """The ports in question: those that the manifest declares, else those that the program's words name."""
    declared = tuple(HostPort(p.container_port, p.protocol.lower()) for p in container.ports or ())
    return declared or tuple(HostPort(int(n), "tcp") for n in _NUMBER.findall(words) if 0 < int(n) < 65536)


def holders(network: Namespace, ports: Iterable[HostPort]) -> dict[HostPort, Holder]:
    """Who listens on each of `ports` in the namespace, as far as we may look."""
    try:
        tables = network.run(_socket_tables)
        inside = os.stat(f"/proc/self/fd/{network.fd}").st_ino
    except (NetworkError, OSError):
        return {}
    inodes = {
        inode: port
        for port in ports
        for number, inode in listening(tables.get(port.protocol, ""), port.protocol)
        if number == port.port
    }
    found: dict[HostPort, Holder] = {}
    for pid in _processes(inside) if inodes else ():
        for target in _open_files(pid):
            port = inodes.get(target[8:-1]) if target.startswith("socket:[") else None
            if port is not None:
                found.setdefault(port, _holder(pid))
    return found


def listening(table: str, protocol: str) -> Iterator[tuple[int, str]]:
    """(port, inode) of each listening socket in the text of /proc/net/tcp or udp."""
    for line in table.splitlines():
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTENS.get(protocol):
            yield int(fields[1].rpartition(":")[2], 16), fields[9]


def _socket_tables() -> dict[str, str]:
    folder = Path("/proc/thread-self/net")
    return {
        p: "".join((folder / name).read_text() for name in (p, f"{p}6") if (folder / name).exists()) for p in _LISTENS
    }


def _processes(network: int) -> Iterator[int]:
    """The processes whose network namespace has the inode `network`."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}/ns/net").st_ino == network:
                    yield int(name)
            except OSError:
                continue


def _open_files(pid: int) -> Iterator[str]:
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            yield os.readlink(f"/proc/{pid}/fd/{name}")
    except OSError:
        return


def _holder(pid: int) -> Holder:
    """The pod is known by its init, an ancestor of every process of it, which writes the logs of its containers."""
    ancestor = pid
    while ancestor > 1:
        logs = {m.groups() for target in _open_files(ancestor) if (m := _LOG.search(target))}
        if logs:
            uid, container = min(logs)
            return Holder(uid, container if len(logs) == 1 else "", pid, _program(pid))
        ancestor = _parent(ancestor)
    return Holder(pid=pid, program=_program(pid))


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _who(holder: Holder, pods: Mapping[str, Pod]) -> str:
    pod = pods.get(holder.uid)
    if pod is None:
        return f"process {holder.pid} ({holder.program or 'unknown'}), which is of no pod"
    return f"pod {pod.ref}" + (f" (container {holder.container})" if holder.container else "")


def _tail(log: Path) -> bytes:
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            return file.read()
    except OSError:
        return b""
