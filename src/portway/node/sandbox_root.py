"""A container's private, writable view of the machine's root, made of mounts alone.

Every top-level folder of the machine is an overlay whose upper half lies on a tmpfs of the container's mount
namespace: nothing is left on disk. (An ordinary user cannot overlay "/" as a whole, its mounts are locked; folder by
folder works, Linux 5.11.) What an overlay cannot show, a nested mount or a folder of a strange file system, is bound
read-only. /dev, /proc, /sys, the names in /etc and the volumes are the container's own. Called in the child that
becomes the container (`sandbox`). Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from portway.node.sandbox_kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID, bind, mount, pivot_root, unmount

_OURS = ("proc", "sys", "dev")
_EMPTY_WHEN_REFUSED = ("tmp", "run")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
_PROGRAMS = ("usr", "opt", "nix", "lib", "lib64", "bin", "sbin", "home", "root", "srv")
_WRITABLE = (
    "/etc",
    "/usr/local",
    "/usr/src",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/tmp",
    "/var/www",
    "/var/spool",
)
_KERNEL_FS = frozenset(
    ("proc", "sysfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "nsfs", "autofs", "securityfs")
)
_KERNEL_MOUNT = MS_NOSUID | MS_NODEV | MS_NOEXEC

Warn = Callable[[str], None]


def enter(spec: dict[str, Any], nested: list[str], warn: Warn) -> None:
    """Build the root below the empty folder `spec["root"]` in the calling process's (new) mount namespace, and move into it.

    `spec`: root, files {path: text}, mounts [{source, target, read_only}], cwd. Raises OSError."""
    mount("tmpfs", spec["root"], "tmpfs", MS_NODEV, "mode=755")
    os.chdir(
        spec["root"]
    )  # relative paths below: the state folder's name may hold ":" or ",", which overlay options cannot
    os.mkdir("new")
    mount("tmpfs", "new", "tmpfs", 0, "mode=755")
    for folder in ("upper", "work"):
        os.mkdir(folder)
    folders = _own_folders(spec)
    bound = {name for name in sorted(os.listdir("/")) if not _top_level(name, spec["files"], folders, warn)}
    for path in nested:
        if path.split("/")[1] not in bound:
            _show_nested(path, warn)
    _devices(warn)
    _kernel_views(warn)
    _pivot()
    for row in spec["mounts"]:
        _volume(row)
    unmount("/.machine")
    os.rmdir("/.machine")


def nested_mounts(mountinfo: str, needed: list[str]) -> list[str]:
    """The mount points below a top-level folder that a container must see although an overlay hides them.

    Those with programs and files of users, and those that hold a path of `needed` (the interpreter). Outermost only: what
    lies below comes with them."""
    found: list[str] = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        path = before.split()[4].encode().decode("unicode_escape")
        parts = path.split("/")
        if len(parts) < 3 or parts[1] in _OURS or after.split()[0] in _KERNEL_FS:
            continue
        if parts[1] in _PROGRAMS or any(n == path or n.startswith(path + "/") for n in needed):
            found.append(path)
    return [p for p in sorted(set(found)) if not any(p.startswith(q + "/") for q in found)]


def _own_folders(spec: dict[str, Any]) -> list[str]:
    """Folders that shall belong to the container: where volumes are mounted, its working folder, and the usual places to write.

    Made in the upper half they are merged with the machine's and are ours: in a user namespace the machine's own belong to
    nobody, and nothing could be made in them. Links are followed as they are on the machine."""
    wanted = [m["target"] if os.path.isdir(m["source"]) else os.path.dirname(m["target"]) for m in spec["mounts"]]
    wanted += [spec["cwd"]] if spec["cwd"] else []
    wanted += _WRITABLE if _in_user_namespace() else ()
    return [path for path in map(os.path.realpath, wanted) if os.path.isdir(path) or not os.path.exists(path)]


def _top_level(name: str, files: dict[str, str], folders: list[str], warn: Warn) -> bool:
    """One entry of the machine's "/". False when it had to be bound instead (then with all below it)."""
    path, new = f"/{name}", f"new/{name}"
    if name in _OURS:
        os.mkdir(new)
    elif os.path.islink(path):
        os.symlink(os.readlink(path), new)
    elif os.path.isdir(path):
        inside = [f for f in folders if f.startswith(path + "/")]
        return _folder(name, {p: t for p, t in files.items() if p.startswith(path + "/")}, inside, warn)
    return True


def _folder(name: str, files: dict[str, str], folders: list[str], warn: Warn) -> bool:
    for base in ("new", "upper", "work"):
        os.mkdir(f"{base}/{name}")
    if not os.access(f"/{name}", os.R_OK | os.X_OK):
        _write(files, "new")  # somebody else's folder, such as /root for an ordinary user: an empty one of our own
        return True
    os.chmod(f"upper/{name}", os.stat(f"/{name}").st_mode & 0o7777)
    for folder in folders:
        _own_folder(folder)
    _write(files, "upper")
    if _overlay(name):
        return True
    if name in _EMPTY_WHEN_REFUSED:
        os.chmod(f"new/{name}", 0o1777)
        return True
    _bind_readable(f"/{name}", f"new/{name}", warn)
    for path in files:
        if os.path.isfile(path):
            bind(f"upper{path}", f"new{path}")
    return False


def _own_folder(path: str) -> None:
    """`path` in the upper half, each part with the mode that it has on the machine."""
    parts = path.split("/")[1:]
    for depth in range(2, len(parts) + 1):
        part = "/" + "/".join(parts[:depth])
        if not os.path.isdir(f"upper{part}"):
            os.mkdir(f"upper{part}")
            if os.path.isdir(part):
                os.chmod(f"upper{part}", os.stat(part).st_mode & 0o7777)


def _overlay(name: str) -> bool:
    """Whether the kernel takes the overlay. In a user namespace overlayfs may keep its marks in user.* attributes only."""
    if ":" in name or "," in name:
        return False
    options = f"lowerdir=/{name},upperdir=upper/{name},workdir=work/{name}"
    try:
        mount("overlay", f"new/{name}", "overlay", 0, options + (",userxattr" if _in_user_namespace() else ""))
    except OSError:
        return False
    return True


def _in_user_namespace() -> bool:
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]


def _write(files: dict[str, str], base: str) -> None:
    for path, text in files.items():
        os.makedirs(os.path.dirname(base + path), exist_ok=True)
        with open(base + path, "w", encoding="utf-8") as file:
            file.write(text)


def _bind_readable(source: str, target: str, warn: Warn) -> None:
    try:
        bind(source, target, recursive=True, read_only=True)
    except OSError as e:
        warn(f"{source} is not (or not read-only) in the container: {e}")


def _show_nested(path: str, warn: Warn) -> None:
    try:
        os.makedirs(f"new{path}", exist_ok=True)
    except OSError as e:
        warn(f"{path} is not in the container: {e}")
        return
    if os.path.isdir(path):
        _bind_readable(path, f"new{path}", warn)


def _devices(warn: Warn) -> None:
    for name in _DEVICES:
        os.close(os.open(f"new/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        try:
            bind(f"/dev/{name}", f"new/dev/{name}")
        except OSError as e:
            warn(f"/dev/{name} is not in the container: {e}")
    for name, target in _DEVICE_LINKS.items():
        os.symlink(target, f"new/dev/{name}")
    for name, kind, options in (
        ("pts", "devpts", "newinstance,ptmxmode=0666,mode=0620"),
        ("shm", "tmpfs", "mode=1777"),
    ):
        os.mkdir(f"new/dev/{name}")
        try:
            mount(kind, f"new/dev/{name}", kind, MS_NOSUID | MS_NOEXEC, options)
        except OSError as e:
            warn(f"/dev/{name} is not in the container: {e}")


def _kernel_views(warn: Warn) -> None:
    """/proc and /sys of the pod's own namespaces; the machine's where the kernel refuses (a masked /proc in a container)."""
    for name, kind in (("proc", "proc"), ("sys", "sysfs")):
        try:
            mount(kind, f"new/{name}", kind, _KERNEL_MOUNT)
        except OSError as e:
            warn(f"/{name} in the container is the machine's, not the pod's: {e}")
            try:
                bind(f"/{name}", f"new/{name}", recursive=True)
            except OSError as e2:
                warn(f"/{name} is not in the container: {e2}")


def _pivot() -> None:
    os.mkdir("new/.machine", 0o700)
    pivot_root("new", "new/.machine")
    os.chdir("/")


def _volume(row: dict[str, Any]) -> None:
    """One volume, after the pivot: links in the path of the target then lead nowhere but into the container."""
    source, target = f"/.machine{row['source']}", row["target"]
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    bind(source, target, recursive=True, read_only=row["read_only"])
