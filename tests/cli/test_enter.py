"""Into a host's network and out as a command: in child processes, as the real thing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from build_netns import needs_namespaces
from portway.cli.enter import CannotEnter, become
from portway.lab import inside
from portway.netns.kernel import Namespace
from portway.netns.plan import Address, Link, Plan

RUN = """
import sys
from pathlib import Path
from portway.cli.enter import CannotEnter, enter
from portway.lab.state import Folder
try:
    enter(int(sys.argv[1]), sys.argv[2], sys.argv[3:], Folder(Path("/state/test")))
except CannotEnter as e:
    print(e, file=sys.stderr)
    sys.exit(e.code)
"""


def entered(namespace: str, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", RUN, str(os.getpid()), namespace, *command]
    return subprocess.run(words, capture_output=True, text=True, input=stdin, timeout=30)


@needs_namespaces
def test_the_network_is_the_hosts_and_the_rest_is_ours() -> None:
    with Namespace.new("host") as host:
        host.apply(Plan(links=(Link("lo"),), addresses=(Address("lo", "10.77.0.1/32"),)))
        path = f"/proc/{os.getpid()}/fd/{host.fd}"
        table = entered(path, "cat", "/proc/net/fib_trie")
        assert "10.77.0.1" in table.stdout
        assert entered(path, "sh", "-c", "cat; exit 7", stdin="typed").stdout == "typed"
        assert entered(path, "sh", "-c", "exit 7").returncode == 7
        assert entered(path, "sh", "-c", "kill -TERM $$").returncode == -15
        assert entered(path, "pwd").stdout.strip() == str(Path.cwd())
        assert entered(path, "printenv", inside.VARIABLE).stdout == "/state/test\n"


@needs_namespaces
def test_a_command_that_is_not_there() -> None:
    with Namespace.new("host") as host:
        done = entered(f"/proc/{os.getpid()}/fd/{host.fd}", "no-such-command")
    assert (done.returncode, done.stderr) == (127, "no-such-command: no such command\n")


def test_a_host_that_is_gone() -> None:
    done = entered(f"/proc/{os.getpid()}/fd/9999", "true")
    assert done.returncode == 1
    assert "cannot enter the host" in done.stderr
    assert "only the user who ran `portway up`" in done.stderr


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("")
    with pytest.raises(CannotEnter, match="Permission denied") as caught:
        become([str(tmp_path / "text")])
    assert caught.value.code == 126
