"""The folder of one cluster: what must outlive the supervisor, and how to tell whether that still runs.

`$PORTWAY_HOME`, by default the user's XDG state folder, has one folder per cluster name (for the owner only): `state.json`,
`objects.db`, `pki/`, `kubeconfig`, the log, the control socket, the pods' files. `down` removes it. After a `kill -9` it is
what the next `up` starts from. A folder that we cannot read is reported and left as it is.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from portway.lab.files import write_private

FORMAT = 1
_NAME_MAX = 40
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{_NAME_MAX - 1}}}")


class StateError(Exception):
    """The state folder cannot be used: which file, why, and the cure."""


class Locked(StateError):
    """Another `portway up`, `down` or `node` works on this folder right now."""


class ProcessId(msgspec.Struct, frozen=True):
    """A process that cannot be mistaken for a later one with the same number: its start in clock ticks since this boot."""

    pid: int
    started: int
    boot: str


class NodeRecord(msgspec.Struct, frozen=True):
    """A node as the next `up` needs it. `on` is False after `portway node stop`."""

    name: str
    number: int
    on: bool = True


class RouteRecord(msgspec.Struct, frozen=True):
    """A route that the user added to a host."""

    host: str
    destination: str
    via: str


class PublishRecord(msgspec.Struct, frozen=True):
    """127.0.0.1:`port` of the user is `address`:`target` of the lab; `protocol` is tcp or udp."""

    port: int
    address: str
    target: int
    protocol: str = "tcp"

    @property
    def text(self) -> str:
        """As `--publish` takes it."""
        return f"{self.port}:{self.address}:{self.target}" + ("/udp" if self.protocol == "udp" else "")


class State(msgspec.Struct, frozen=True):
    """`state.json`. `images` maps an image's name to the command that stands for it; without `zones` nodes have none."""

    format: int = FORMAT
    supervisor: ProcessId | None = None
    port: int = 0
    nodes: tuple[NodeRecord, ...] = ()
    images: Mapping[str, str] = msgspec.field(default_factory=dict)
    routes: tuple[RouteRecord, ...] = ()
    zones: int = 0
    published: tuple[PublishRecord, ...] = ()


def home(environment: Mapping[str, str]) -> Path:
    """The folder of all clusters: $PORTWAY_HOME, or portway/ in $XDG_STATE_HOME, or ~/.local/state/portway.

    StateError for one with a ':', which would make two paths of it in $KUBECONFIG."""
    found = _home(environment)
    if ":" in str(found):
        raise StateError(
            f"{found} has a ':', which separates paths in KUBECONFIG: set PORTWAY_HOME to a folder without"
        )
    return found


def _home(environment: Mapping[str, str]) -> Path:
    if environment.get("PORTWAY_HOME"):
        return Path(environment["PORTWAY_HOME"]).absolute()
    base = environment.get("XDG_STATE_HOME", "")
    if base.startswith("/"):
        return Path(base) / "portway"
    return Path(environment.get("HOME") or os.path.expanduser("~")) / ".local" / "state" / "portway"


@dataclass(frozen=True, slots=True)
class Folder:
    """The paths of one cluster."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def state_file(self) -> Path:
        return self.path / "state.json"

    @property
    def database(self) -> Path:
        return self.path / "objects.db"

    @property
    def pki(self) -> Path:
        return self.path / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.path / "kubeconfig"

    @property
    def log(self) -> Path:
        return self.path / "supervisor.log"

    @property
    def see(self) -> tuple[str, ...]:
        """Where to read more, for the end of a message; nothing while the log has nothing to say (a full disk keeps it empty)."""
        try:
            return (f"see {self.log}",) if self.log.stat().st_size else ()
        except OSError:
            return ()

    @property
    def control(self) -> Path:
        return self.path / "control.sock"

    @property
    def nodes(self) -> Path:
        """One folder a node below it, for its pods' files."""
        return self.path / "nodes"

    @property
    def kubectl_cache(self) -> Path:
        return self.path / "kubectl-cache"


def folder(home_path: Path, name: str) -> Folder:
    """The folder of the cluster `name`. StateError for a name that cannot be a folder."""
    if not _NAME.fullmatch(name):
        raise StateError(
            f"{name!r} cannot name a cluster: use letters, digits, '-' and '_' (at most {_NAME_MAX}), "
            "and begin with a letter or digit"
        )
    return Folder(home_path / name)


def prepare(place: Folder) -> None:
    """Make the folder, or check that it is ours and nobody else can look into it."""
    try:
        place.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.path.stat()
        if found.st_uid != os.geteuid():
            raise StateError(
                f"{place.path} belongs to another user: set PORTWAY_HOME to a folder of your own, or run as that user"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            place.path.chmod(0o700)
    except OSError as e:
        raise StateError(
            f"cannot make the state folder {place.path}: {e.strerror}; set PORTWAY_HOME to a folder that you may write"
        ) from e


def load(place: Folder) -> State | None:
    """What `state.json` says; None when there is no such cluster. StateError for a file that we cannot read."""
    try:
        data = place.state_file.read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as e:
        raise StateError(f"cannot read {place.state_file}: {e}; make it readable, or {_set_aside(place)}") from e
    try:
        state = msgspec.json.decode(data, type=State)
    except msgspec.DecodeError as e:
        raise StateError(f"{place.state_file} is damaged ({e}); nothing was changed: {_set_aside(place)}") from e
    if state.format != FORMAT:
        raise StateError(
            f"{place.state_file} has format {state.format}, this version reads {FORMAT}; "
            f"use the version that wrote it, or {_set_aside(place)}"
        )
    return state


def _set_aside(place: Folder) -> str:
    return f"move the folder away and start afresh: mv {place.path} {place.path}.old"


def save(place: Folder, state: State) -> None:
    """Replace `state.json` as a whole."""
    try:
        write_private(place.state_file, msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
    except OSError as e:
        raise StateError(f"cannot write {place.state_file}: {e.strerror}; free some space or mend its folder") from e


@contextmanager
def lock(home_path: Path, seconds: float = 0.0) -> Iterator[None]:
    """Only one command changes the clusters of `home_path` at a time; another is waited for so long, then Locked.

    The lock is on the folder: it leaves no file."""
    try:
        home_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(home_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise StateError(
            f"cannot make the state folder {home_path}: {e.strerror}; set PORTWAY_HOME to a folder that you may write"
        ) from e
    try:
        try:
            _take(fd, seconds)
        except BlockingIOError as e:
            raise Locked(f"another portway command works on {home_path} right now: wait until it has ended") from e
        yield
    finally:
        os.close(fd)


def _take(fd: int, seconds: float) -> None:
    """The lock on `fd`. BlockingIOError when another has it for `seconds`."""
    end = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        time.sleep(0.02)


def occupy(place: Folder, seconds: float) -> int:
    """A descriptor for the supervisor to inherit: who holds it holds the folder, whatever `state.json` says (or does not say yet:
    an `up` that was killed may have left a supervisor that is still ending). Locked when another has it for `seconds`."""
    fd = os.open(place.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _take(fd, seconds)
    except BlockingIOError as e:
        os.close(fd)
        raise Locked(
            f"another supervisor holds {place.path} and does not end: portway down ends it "
            f"(fuser -v {place.path} shows who it is)"
        ) from e
    return fd


def identify(pid: int) -> ProcessId | None:
    """Who has the number `pid` now; None when nobody has (or a zombie, which runs no more)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    if fields[0] in "ZX":
        return None
    return ProcessId(pid, int(fields[19]), boot)


def running(state: State | None, who: Callable[[int], ProcessId | None] = identify) -> ProcessId | None:
    """The supervisor of `state`, if that very process still runs."""
    recorded = state.supervisor if state else None
    return recorded if recorded is not None and who(recorded.pid) == recorded else None


def remove_runtime(place: Folder) -> None:
    """Remove what belonged to a supervisor that is gone: its socket and its pods' files. Objects and keys stay."""
    place.control.unlink(missing_ok=True)
    remove_tree(place.nodes)


def remove(place: Folder) -> bool:
    """Remove what Portway made in the folder of a cluster that is down, and the folder; whether there was anything.

    What is not ours stays (PORTWAY_HOME may be a folder of the user's): StateError names it. `state.json` goes last, so that a
    removal that was interrupted is taken up again by the next `down`."""
    ours = [
        *(place.control, place.nodes, place.kubectl_cache, place.pki, place.kubeconfig),
        *sorted(place.path.glob(f"{place.log.name}*")),
        *sorted(place.path.glob(f"{place.database.name}*")),
        *sorted(place.path.glob(".*.new")),  # what `write_private` was about to rename
        place.state_file,
    ]
    there = [path for path in ours if os.path.lexists(path)]
    for path in there:
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
    try:
        place.path.rmdir()
    except FileNotFoundError:
        pass
    except OSError as e:
        if not there:
            return False
        left = ", ".join(sorted(os.listdir(place.path))[:3])
        raise StateError(f"{place.path} is kept: it has files that portway did not make ({left})") from e
    return bool(there)


def remove_tree(path: Path) -> None:
    """rmtree that also takes folders without permissions, as overlayfs leaves them. StateError names what stays."""

    tried: set[str] = set()

    def again(function: Callable[..., Any], name: str, error: Any) -> None:
        problem = error[1]
        if isinstance(problem, FileNotFoundError):
            return
        try:
            if name in tried:
                raise problem
            tried.add(name)
            os.chmod(os.path.dirname(name), 0o700)
            if os.path.isdir(name) and not os.path.islink(name):
                os.chmod(name, 0o700)
                shutil.rmtree(name, onerror=again)
            else:
                os.unlink(name)
        except OSError as e:
            raise StateError(f"cannot remove {name}: {e.strerror}; remove {path} yourself") from e

    if path.exists():
        shutil.rmtree(path, onerror=again)
