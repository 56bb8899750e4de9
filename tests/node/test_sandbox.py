"""Containers for real: what a process in a pod sees, how it ends, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from build_node import SHELL, needs_pods
from portway.loop import SystemClock
from portway.netns.kernel import Namespace
from portway.node.lifecycle import Exit
from portway.node.logs import View, read
from portway.node.prober import run_command
from portway.node.runtime import Mount, PodHost, Run, RuntimeRefused, Sandbox, Start, StartFailed, refusal

pytestmark = [needs_pods, pytest.mark.lab]


@dataclass
class Place:
    """A pod and a folder for its files."""

    host: PodHost
    sandbox: Sandbox
    folder: Path
    warnings: list[str]
    runs: int = 0

    def start(self, *argv: str, id_: str = "main", **more: Any) -> Run:
        self.runs += 1
        root = self.folder / f"root-{self.runs}"
        root.mkdir()
        options: dict[str, Any] = {"env": SHELL, "root": str(root), "log": str(self.log(id_)), **more}
        return self.sandbox.start(id_, Start(argv=argv, **options))

    def shell(self, script: str, id_: str = "main", **more: Any) -> Run:
        return self.start("/bin/sh", "-c", script, id_=id_, **more)

    def log(self, id_: str = "main") -> Path:
        return self.folder / f"{id_}.log"

    async def output(self, id_: str = "main") -> str:
        return b"".join([piece async for piece in read(self.log(id_), View(), clock=SystemClock())]).decode()

    async def says(self, script: str, **more: Any) -> str:
        """What a line of shell prints in a container of its own."""
        exit_ = await ended(self.shell(script, **more))
        text = await self.output()
        assert exit_.code == 0, text
        return text


async def ended(run: Run) -> Exit:
    return await asyncio.wait_for(asyncio.shield(run.exited), 20)


@asynccontextmanager
async def place(folder: Path, hostname: str = "web-1", **more: Any) -> AsyncIterator[Place]:
    host, warnings = PodHost(), list[str]()
    with Namespace.new("pod") as network:
        try:
            await host.start()
            sandbox = host.pod(hostname, network.fd, warn=warnings.append, **more)
            await sandbox.ready()
            yield Place(host, sandbox, folder, warnings)
            sandbox.close()
        finally:
            await host.close()


async def test_names_and_processes_are_the_pods_own(tmp_path: Path) -> None:
    async with place(tmp_path) as pod:
        text = await pod.says("hostname; echo $$; set -- /proc/[0-9]*; echo $#; ls /sys/class/net; id -u")
    assert text.split() == ["web-1", "2", "2", "lo", "0"]


async def test_the_root_is_the_machines_and_private(tmp_path: Path) -> None:
    marker = f"/usr/marker-{os.getpid()}"
    outside = tmp_path / "a-folder" / "a-file"
    outside.parent.mkdir()
    outside.write_text("of the machine")
    script = f"echo mine > {marker}; cat {marker}; echo page > index.html; cat /index.html; rm {outside}; ls {outside.parent}"
    async with place(tmp_path) as pod:
        assert await pod.says(script) == "mine\npage\n"
        again = await pod.says(f"ls {marker} 2>/dev/null || echo gone", id_="main")
    assert again.endswith("gone\n")
    assert not os.path.exists(marker)
    assert outside.read_text() == "of the machine"


async def test_files_of_etc(tmp_path: Path) -> None:
    files = {
        "/etc/hostname": "web-1\n",
        "/etc/hosts": "10.0.1.2 web-1\n",
        "/etc/resolv.conf": "nameserver 10.3.240.10\n",
    }
    async with place(tmp_path) as pod:
        assert await pod.says("cat /etc/hostname /etc/hosts /etc/resolv.conf", files=files) == "".join(files.values())


async def test_devices(tmp_path: Path) -> None:
    script = """set -e
    echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c
    test -c /dev/full -a -c /dev/random -a -c /dev/tty -a -e /dev/pts/ptmx
    echo shared > /dev/shm/a; cat /dev/shm/a; ls /dev | grep -c vda || true
    """
    async with place(tmp_path) as pod:
        assert (await pod.says(script)).split() == ["3", "5", "shared", "0"]


async def test_exit_codes_and_signals(tmp_path: Path) -> None:
    async with place(tmp_path) as pod:
        assert await ended(pod.shell("exit 7")) == Exit(7)
        run = pod.shell("exec sleep 100")
        await run.started
        pod.sandbox.signal(run, signal.SIGTERM)
        assert await ended(run) == Exit(143, 15)


async def test_sigterm_reaches_a_handler(tmp_path: Path) -> None:
    async with place(tmp_path) as pod:
        run = pod.shell("trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.01; done")
        async with asyncio.timeout(10):
            while "up" not in await pod.output():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        pod.sandbox.signal(run, signal.SIGTERM)
        assert await ended(run) == Exit(5)
        assert await pod.output() == "up\nbye\n"


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    async with place(tmp_path) as pod:
        run = pod.start("no-such-program")
        with pytest.raises(StartFailed, match="exec no-such-program: No such file") as caught:
            await run.started
        assert caught.value.code == 127
        assert (await ended(run)).code == 127
        other = pod.start("/usr")
        with pytest.raises(StartFailed, match="exec /usr: Permission denied") as caught:
            await other.started
        assert caught.value.code == 126


async def test_working_folder_and_environment(tmp_path: Path) -> None:
    async with place(tmp_path) as pod:
        text = await pod.says("pwd; echo $COLOUR", cwd="/srv/new/folder", env={**SHELL, "COLOUR": "blue"})
    assert text == "/srv/new/folder\nblue\n"


async def test_volumes_are_bound_where_the_container_wants_them(tmp_path: Path) -> None:
    volume = tmp_path / "data"
    volume.mkdir()
    (volume / "file").write_text("from outside\n")
    mounts = (
        Mount(str(volume), "/data"),
        Mount(str(volume), "/usr/share/deep/er", read_only=True),
        Mount(str(volume / "file"), "/etc/app.conf"),
        Mount(str(volume), "/var/run/app"),
    )
    script = """cat /data/file /etc/app.conf /run/app/file; echo in > /data/new
    touch /usr/share/deep/er/x 2>/dev/null || echo read-only"""
    async with place(tmp_path) as pod:
        assert await pod.says(script, mounts=mounts) == "from outside\n" * 3 + "read-only\n"
    assert (volume / "new").read_text() == "in\n"


async def test_a_memory_volume_is_shared_by_containers_and_leaves_no_file(tmp_path: Path) -> None:
    volume = tmp_path / "memory"
    volume.mkdir()
    mounts = (Mount(str(volume), "/cache"),)
    async with place(tmp_path, memory={str(volume): "mode=1777"}) as pod:
        await pod.says("echo kept > /cache/a", mounts=mounts)
        assert (await pod.says("cat /cache/a; stat -f -c %T /cache", mounts=mounts)).endswith("kept\ntmpfs\n")
    assert list(volume.iterdir()) == []


async def test_containers_share_all_but_their_files(tmp_path: Path) -> None:
    async with place(tmp_path) as pod:
        first = pod.shell("echo secret > /only-here; exec sleep 100", id_="first")
        await first.started
        second = await ended(pod.shell("test ! -e /only-here && kill -0 2 && echo sees the other", id_="second"))
        assert second.code == 0
        assert await pod.output("second") == "sees the other\n"


async def test_what_a_container_leaves_behind_is_killed_and_reaped(tmp_path: Path) -> None:
    async with place(tmp_path) as pod:
        await ended(pod.shell("setsid sleep 1000 & setsid sh -c 'sleep 1001 & exit' & wait $!; exit 0", id_="first"))
        counted = pod.shell(
            "for i in 1 2 3 4 5 6 7 8 9; do set -- /proc/[0-9]*; echo $#; sleep 0.02; done", id_="second"
        )
        await ended(counted)
        assert (await pod.output("second")).split()[-1] == "2"  # init and the shell


async def test_output_of_before_the_end_is_in_the_log_when_the_end_is_told(tmp_path: Path) -> None:
    async with place(tmp_path) as pod:
        for size in (1, 1000, 20_000):
            await ended(pod.shell(f"seq 1 {size}", id_=f"n{size}"))
            assert (await pod.output(f"n{size}")).split()[-1] == str(size)


async def test_exec_runs_inside_the_container(tmp_path: Path) -> None:
    async with place(tmp_path) as pod:
        run = pod.shell("echo here > /mark; exec sleep 100")
        await run.started
        heard = bytearray()
        async with asyncio.timeout(10):
            while b"here" not in heard:
                exit_ = await run_command(pod.sandbox, run.id, ("sh", "-c", "cat /mark; exit 4"), SHELL, heard.extend)
        assert exit_ == Exit(4)
        with pytest.raises(StartFailed, match="exec nothing: No such file"):
            await run_command(pod.sandbox, run.id, ("nothing",), SHELL, heard.extend)
        with pytest.raises(StartFailed, match="the container is not running"):
            await run_command(pod.sandbox, "nobody", ("true",), SHELL, heard.extend)


async def test_a_command_that_nobody_waits_for_is_killed(tmp_path: Path) -> None:
    async with place(tmp_path) as pod:
        run = pod.shell("exec sleep 100")
        await run.started
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await run_command(pod.sandbox, run.id, ("sleep", "999"), SHELL, lambda _: None)
        heard = bytearray()
        async with asyncio.timeout(10):
            while True:
                heard.clear()
                await run_command(pod.sandbox, run.id, ("sh", "-c", "cat /proc/[0-9]*/cmdline"), SHELL, heard.extend)
                if b"999" not in heard:
                    break


async def test_exec_with_a_terminal(tmp_path: Path) -> None:
    async with place(tmp_path) as pod:
        run = pod.shell("exec sleep 100")
        await run.started
        command = pod.sandbox.exec(
            run.id, ["sh", "-c", "tty; read x; echo got $x; stty size"], SHELL, stdio=(), tty=True
        )
        terminal = await asyncio.wait_for(asyncio.shield(command.terminal), 10)
        try:
            os.write(terminal, b"hello\n")
            await ended(command)
            text = os.read(terminal, 4096).decode()
        finally:
            os.close(terminal)
    assert text.startswith("/dev/pts/0") or "\n/dev/pts/0" in text
    assert "got hello" in text


async def test_closing_the_pod_ends_everything_in_it(tmp_path: Path) -> None:
    async with place(tmp_path) as pod:
        run = pod.shell("trap '' TERM INT HUP; sleep 1000 & while :; do sleep 1; done")
        await run.started
        watched = [os.pidfd_open(pid) for pid in descendants(pod.host.pid)]
        pod.sandbox.close()
        assert (await ended(run)).signal == 9
        assert len(watched) >= 2
        await all_ended(watched)


async def test_a_host_that_is_killed_takes_its_pods_with_it(tmp_path: Path) -> None:
    async with place(tmp_path) as pod:
        run = pod.shell("exec sleep 1000")
        await run.started
        watched = [os.pidfd_open(pid) for pid in descendants(pod.host.pid)]
        pod.host.kill()
        assert (await ended(run)).signal == 9
        await all_ended(watched)
        with pytest.raises(RuntimeRefused, match="not running"):
            pod.host.pod("late", 0)
        assert (await ended(pod.shell("true", id_="late"))).signal == 9


PARENT = """
import asyncio, os, sys
sys.path[:0] = {path!r}
from build_node import SHELL
from portway.netns.kernel import Namespace
from portway.node.runtime import PodHost, Start

async def main(folder):
    host, network = PodHost(), Namespace.new("pod")
    await host.start()
    sandbox = host.pod("web", network.fd)
    os.mkdir(folder + "/root")
    argv = ("/bin/sh", "-c", "sleep 1000 & exec sleep 1001")
    run = sandbox.start("main", Start(argv=argv, env=SHELL, root=folder + "/root", log=folder + "/log"))
    await run.started
    print(host.pid, flush=True)
    await run.exited

asyncio.run(main(sys.argv[1]))
"""


async def test_kill_9_of_the_parent_leaves_no_process(tmp_path: Path) -> None:
    path = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]
    parent = subprocess.Popen(  # noqa: ASYNC220 - it is to be killed, not waited for
        [sys.executable, "-c", PARENT.format(path=path), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        host = int(await asyncio.to_thread(parent.stdout.readline))
        watched = [os.pidfd_open(pid) for pid in (host, *descendants(host))]
        assert len(watched) >= 3
        parent.kill()
        await all_ended(watched)
    finally:
        parent.kill()
        parent.wait()
        if parent.stdout:
            parent.stdout.close()


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def _readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 10)[0])


async def all_ended(pidfds: list[int]) -> None:
    """Wait for the end of processes that are not our children."""
    try:
        for fd in pidfds:
            assert await asyncio.to_thread(_readable, fd), "a process is still there"
    finally:
        for fd in pidfds:
            os.close(fd)


IN_USER_NAMESPACE = """
import ctypes, os, sys
uid, gid = os.getuid(), os.getgid()
if ctypes.CDLL(None, use_errno=True).unshare(0x10000000) != 0:
    raise SystemExit(77)
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_all_of_this_in_a_user_namespace() -> None:
    """As an ordinary user has it: one user id, mounts of the machine locked."""
    if os.environ.get("PORTWAY_TEST_INNER"):
        return
    probe = subprocess.run([sys.executable, "-c", IN_USER_NAMESPACE, "-c", "pass"], capture_output=True)
    if probe.returncode:
        pytest.skip("user namespaces are not permitted here")
    here = Path(__file__)
    command = [
        "-m",
        "pytest",
        "-q",
        str(here),
        str(here.parent / "test_agent.py"),
        str(here.parent / "test_streams.py"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", IN_USER_NAMESPACE, *command],
        cwd=here.parents[2],
        env={**os.environ, "PORTWAY_TEST_INNER": "1"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout


async def test_a_namespace_that_is_none_is_refused(tmp_path: Path) -> None:
    host = PodHost()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            await host.start()
            with pytest.raises(RuntimeRefused):
                await host.pod("web", theirs.fileno()).ready()
        finally:
            await host.close()


def test_refusals_say_the_cure() -> None:
    assert "run as root, or allow user namespaces" in refusal("unshare: Operation not permitted")
    assert "user.max" in refusal("unshare: No space left on device")
    assert refusal("something else") == "something else"
