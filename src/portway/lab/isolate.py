"""Into namespaces of our own: what the supervisor does first of all, while it still has a single thread.

As an ordinary user it enters a user namespace in which it is root; then, as root or not, a mount namespace from which nothing
that is mounted gets out. It stays in the machine's network namespace (it listens on 127.0.0.1) and adds nothing to it.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from portway.netlink.namespace import CLONE_NEWNS, CLONE_NEWUSER, unshare

_MS_REC, _MS_SLAVE = 0x4000, 1 << 19
_MNT_DETACH = 2
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)

USER_NAMESPACE_CURE = (
    "allow user namespaces (as root: sysctl -w user.max_user_namespaces=15000, kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0, as far as they exist), or run portway as root"
)


class CannotIsolate(Exception):
    """The machine does not let us make our namespaces; the message names the call and the cure."""


def isolate(*, user_namespace: bool) -> None:
    """Enter our own namespaces; what is mounted from here on is not seen outside. Children that lose their parent are ours."""
    if user_namespace:
        enter_user_namespace()
    enter_mount_namespace()
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def enter_user_namespace() -> None:
    """Be root (uid 0, gid 0) in a user namespace that maps them to who we are outside."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    except OSError as e:
        raise CannotIsolate(f"cannot make a user namespace ({e.strerror}): {USER_NAMESPACE_CURE}") from e


def enter_mount_namespace() -> None:
    """Leave the machine's mounts: changes there still arrive here (a disk that the user mounts), ours do not go back."""
    try:
        unshare(CLONE_NEWNS)
    except OSError as e:
        cures = {
            errno.EPERM: USER_NAMESPACE_CURE,
            errno.ENOSPC: "raise the limit (as root: sysctl -w user.max_mnt_namespaces=15000)",
        }
        cure = cures.get(e.errno or 0, "the kernel needs mount namespaces")
        raise CannotIsolate(f"cannot make a mount namespace ({e.strerror}): {cure}") from e
    try:
        mount("none", "/", flags=_MS_REC | _MS_SLAVE)
    except OSError as e:
        raise CannotIsolate(
            f"cannot make the mounts private ({e.strerror}): run portway outside of this sandbox"
        ) from e


def mount(source: str, target: str, kind: str = "", options: str = "", *, flags: int = 0) -> None:
    """mount(2). OSError names what was mounted where."""
    words = (source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None)
    if _libc.mount(*words) != 0:
        raise _failed(f"mount {kind} on {target}")


def unmount(target: str) -> None:
    """Take `target` and all below it out of the tree at once."""
    if _libc.umount2(target.encode(), _MNT_DETACH) != 0:
        raise _failed(f"unmount {target}")


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
