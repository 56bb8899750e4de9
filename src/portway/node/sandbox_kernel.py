"""The system calls that Python 3.11 does not offer: mount, umount2, pivot_root and prctl, with errors that name what
was refused.

Standard library only, like every `sandbox*` module: the sandbox process runs without site packages. Used by `sandbox`
and `sandbox_root`; the namespaces themselves (unshare, setns) come from `portway.netlink.namespace`.
"""

from __future__ import annotations

import ctypes
import os

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18

_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "armv7l": 218, "ppc64le": 203, "riscv64": 41, "s390x": 217}
# Flags of statvfs(2) that a mount inside a user namespace may not drop when it is mounted again.
_LOCKED = {os.ST_NOSUID: MS_NOSUID, os.ST_NODEV: MS_NODEV, os.ST_NOEXEC: MS_NOEXEC, os.ST_RDONLY: MS_RDONLY}

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError that says what was mounted where."""
    text = (source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None)
    if _libc.mount(*text) != 0:
        raise _error(f"mount {kind or 'bind'} {source} on {target}")


def bind(source: str, target: str, *, recursive: bool = False, read_only: bool = False) -> None:
    """Show `source` at `target`; `read_only` covers the top mount alone (Linux offers no recursive remount here)."""
    mount(source, target, flags=MS_BIND | (MS_REC if recursive else 0))
    if read_only:
        kept = os.statvfs(target).f_flag
        flags = sum(flag for bit, flag in _LOCKED.items() if kept & bit)
        mount("none", target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | flags)


def unmount(target: str) -> None:
    """Take `target` and all below it out of the tree at once; it ends when nobody uses it."""
    if _libc.umount2(target.encode(), _MNT_DETACH) != 0:
        raise _error(f"unmount {target}")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2): `new` becomes "/", what was "/" appears at `old` (a directory below `new`)."""
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(f"pivot_root: the system call number of {os.uname().machine} is not known; please report it")
    if _libc.syscall(ctypes.c_long(number), new.encode(), old.encode()) != 0:
        raise _error(f"pivot_root {new}")


def die_with_parent() -> None:
    """SIGKILL for this process when the thread that started it ends (PR_SET_PDEATHSIG; a fork clears it)."""
    if _libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0) != 0:
        raise _error("prctl PR_SET_PDEATHSIG")


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
