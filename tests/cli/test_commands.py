"""The words on the command line: what they ask of the supervisor, what they print, and how they refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from build_cli import CommandLine, StandIn, stand_in, status
from portway.cli import enter, main, session
from portway.cli.enter import CannotEnter
from portway.lab import state
from portway.lab.ask import Refused
from portway.lab.state import Folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PORTWAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PORTWAY_NAME", raising=False)
    return tmp_path / "home"


@pytest.fixture
def portway(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def cluster(home: Path) -> Iterator[StandIn]:
    with stand_in(home) as found:
        yield found


class Became(Exception):
    """Instead of execvp: what this process would have become."""


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []

    def become(command: list[str]) -> None:
        commands.append(list(command))
        raise CannotEnter("instead of execvp", 99)

    monkeypatch.setattr(session, "become", become)
    monkeypatch.setattr(enter, "become", become)
    return commands


COMMANDS = [
    ["up"], ["down"], ["status"], ["exec"], ["kubectl"], ["bench"], ["kubeconfig"], ["doctor"], ["version"],
    ["node", "add"], ["node", "remove"], ["node", "stop"], ["node", "start"], ["node", "list"],
    ["route", "add"], ["route", "delete"], ["route", "list"],
    ["publish", "add"], ["publish", "remove"], ["publish", "list"],
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_help_has_an_example(portway: CommandLine, words: list[str]) -> None:
    said = portway(*words, "--help")
    assert said.code == 0
    below_usage = said.out.partition("\n")[2]
    assert f"portway {' '.join(words)}" in below_usage, "an example that can be copied"


@pytest.mark.parametrize("group", [[], ["node"], ["route"], ["publish"]])
def test_the_first_help_lists_every_command(portway: CommandLine, group: list[str]) -> None:
    said = portway(*group, "--help")
    expected = {w[len(group)] for w in COMMANDS if w[: len(group)] == group}
    assert expected <= {line.split()[0] for line in said.out.splitlines() if line.strip()}
    assert "..." not in said.out.replace("[ARGS]...", ""), "no sentence is cut off"


@pytest.mark.parametrize(
    "words",
    [
        ["status"], ["kubeconfig"], ["exec", "client", "--", "true"], ["kubectl", "get", "pods"], ["node", "list"],
        ["node", "add", "node-3"], ["route", "list"], ["route", "add", "10.3.240.0/20", "--via", "node-1"],
        ["exec", "pod/default/web", "--", "true"], ["publish", "list"], ["publish", "add", "80:10.100.0.2:80"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_without_a_cluster_every_command_says_how_to_get_one(portway: CommandLine, words: list[str]) -> None:
    said = portway(*words)
    assert said.code == 1
    assert said.err == "portway: no cluster is up: run portway up\n"


def test_without_a_cluster_status_is_still_json(portway: CommandLine) -> None:
    said = portway("status", "-o", "json")
    assert said.code == 1
    assert json.loads(said.out)["ready"] is False


def test_a_supervisor_that_has_ended_is_told_from_none(portway: CommandLine, home: Path) -> None:
    place = state.folder(home, "portway")
    state.prepare(place)
    state.save(place, state.State(supervisor=state.ProcessId(1, 0, "another boot")))
    said = portway("status")
    assert said.code == 1
    assert "has ended" in said.err
    assert "portway up starts it again with its objects" in said.err


@pytest.mark.parametrize("command", ["status", "up", "down"])
def test_a_state_that_cannot_be_read_is_one_line_with_the_cure(portway: CommandLine, home: Path, command: str) -> None:
    place = state.folder(home, "portway")
    state.prepare(place)
    place.state_file.write_text("{ this is not JSON")
    said = portway(command)
    assert said.code == 1
    assert said.err.startswith(f"portway: {place.state_file} is damaged")
    assert f"mv {place.path} {place.path}.old" in said.err
    assert len(said.err.splitlines()) == 1
    assert place.state_file.read_text() == "{ this is not JSON"


def test_status_for_people_and_for_programs(portway: CommandLine, cluster: StandIn) -> None:
    text = portway("status")
    assert (text.code, text.err) == (0, "")
    assert text.out.startswith("portway is ready: https://127.0.0.1:6443\n")
    assert "node-1   node     ready   10.100.0.2" in text.out
    found = json.loads(portway("status", "-o", "json").out)
    assert found["ready"] is True
    assert {"portway", "kubectl", "python", "kernel"} <= set(found["versions"])
    assert {h["name"] for h in found["hosts"]} == {"client", "node-1", "node-2"}


def test_status_is_a_failure_when_something_is_not_ready(portway: CommandLine, cluster: StandIn) -> None:
    agent = {"name": "proxy", "host": "node-1", "state": "backing off", "restarts": 3, "error": "OSError: no"}
    route = {"host": "edge", "destination": "10.3.240.0/20", "via": "10.100.0.2"}
    cluster.answers["status"] = status(ready=False, agents=[agent], routes=[route])
    said = portway("status")
    assert said.code == 1
    assert "portway is NOT ready" in said.out
    assert "proxy   node-1   backing off   3          OSError: no" in said.out
    assert "edge        10.3.240.0/20   10.100.0.2" in said.out
    assert portway("status", "-o", "json").code == 1


def test_a_second_up_says_how_to_use_the_first(portway: CommandLine, cluster: StandIn) -> None:
    said = portway("up")
    assert said.code == 0
    assert "portway is already up: 2 nodes" in said.out
    assert f"export KUBECONFIG={cluster.place.kubeconfig}" in said.out


def test_another_command_at_work_is_not_disturbed(
    portway: CommandLine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portway.cli.lifecycle._OTHERS_SECONDS", 0.0)
    with state.lock(home):
        for command in (["up", "--timeout", "0.01"], ["down"]):
            said = portway(*command)
            assert said.code == 1
            assert "wait until it has ended" in said.err


def test_down_without_a_cluster_is_no_error(portway: CommandLine) -> None:
    said = portway("down")
    assert (said.code, said.out) == (0, "portway is not up: nothing to do\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["up", "--image", "nothing"], "NAME=COMMAND"),
        (["up", "--image", "=cmd"], "NAME=COMMAND"),
        (["up", "--nodes", "0"], "--nodes"),
        (["up", "--nodes", "many"], "--nodes"),
        (["up", "--timeout", "0"], "more than 0"),
        (["up", "--timeout", "-1"], "more than 0"),
        (["up", "--timeout", "nan"], "more than 0"),
        (["up", "--timeout", "inf"], "more than 0"),
        (["up", "extra"], "unexpected extra argument"),
        (["fly"], "No such command"),
        (["route", "add", "10.3.240.0/20"], "--via"),
        (["status", "-o", "yaml"], "yaml"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_words_that_make_no_sense_are_refused_before_anything_is_done(
    portway: CommandLine, home: Path, words: list[str], says: str
) -> None:
    said = portway(*words)
    assert said.code == 2
    assert says in said.err
    assert not home.exists()


def test_a_name_that_cannot_be_a_folder(portway: CommandLine) -> None:
    said = portway("up", "--name", "../elsewhere")
    assert said.code == 1
    assert "cannot name a cluster" in said.err


def test_clusters_have_names(portway: CommandLine, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stand_in(home, "test") as other:
        assert portway("kubeconfig", "--name", "test").out == f"{other.place.kubeconfig}\n"
        monkeypatch.setenv("PORTWAY_NAME", "test")
        assert portway("kubeconfig").out == f"{other.place.kubeconfig}\n"
        assert "portway down --name test" in portway("up").out
    assert "portway up --name test" in portway("kubeconfig").err or portway("kubeconfig").code == 0


@pytest.mark.parametrize(
    ("words", "asked", "answer", "says"),
    [
        (["node", "add", "node-3"], {"op": "node-add", "node": "node-3"},
         {"name": "node-3", "addresses": ["10.100.0.4"]}, "node-3 is ready: 10.100.0.4"),
        (["node", "remove", "node-2", "--timeout", "5"], {"op": "node-remove", "node": "node-2", "seconds": 5.0},
         {"name": "node-2", "left": []}, "node-2 is gone"),
        (["node", "remove", "node-2"], {"op": "node-remove", "node": "node-2", "seconds": 60.0},
         {"name": "node-2", "left": ["a/b"]}, "node-2 is gone; pods that did not move in time: a/b"),
        (["node", "stop", "node-1"], {"op": "node-stop", "node": "node-1"}, {"name": "node-1"}, "node-1 is off"),
        (["node", "start", "node-1"], {"op": "node-start", "node": "node-1"}, {"name": "node-1"}, "node-1 is ready"),
        (["route", "add", "10.3.240.0/20", "--via", "node-1"],
         {"op": "route-add", "destination": "10.3.240.0/20", "via": "node-1", "host": "edge"},
         {"host": "edge", "destination": "10.3.240.0/20", "via": "10.100.0.2"}, "edge: 10.3.240.0/20 via 10.100.0.2"),
        (["route", "delete", "10.3.240.0/20", "--host", "client"],
         {"op": "route-delete", "destination": "10.3.240.0/20", "host": "client"},
         {"host": "client", "destination": "10.3.240.0/20"}, "client: 10.3.240.0/20 is gone"),
        (["publish", "add", "8080:10.100.0.2:30080"], {"op": "publish-add", "publish": "8080:10.100.0.2:30080"},
         {"published": "8080:10.100.0.2:30080"}, "published 8080:10.100.0.2:30080"),
        (["publish", "remove", "53/udp"], {"op": "publish-remove", "publish": "53/udp"},
         {"published": "53:10.3.240.10:53/udp"}, "no longer published: 53:10.3.240.10:53/udp"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)  # fmt: skip
def test_what_the_supervisor_is_asked(
    portway: CommandLine, cluster: StandIn, words: list[str], asked: object, answer: object, says: str
) -> None:
    cluster.answers[str(asked["op"]) if isinstance(asked, dict) else ""] = answer
    said = portway(*words)
    assert (said.code, said.out.strip()) == (0, says)
    assert cluster.asked == [asked]


def test_lists(portway: CommandLine, cluster: StandIn) -> None:
    cluster.answers["routes"] = [
        {"destination": "10.0.1.0/24", "via": "10.100.0.2", "link": "eth0", "owner": "cloud-routes"}
    ]
    assert portway("route", "list").out.splitlines()[1] == "10.0.1.0/24   10.100.0.2   eth0   cloud-routes"
    assert json.loads(portway("route", "list", "-o", "json").out) == cluster.answers["routes"]
    assert portway("node", "list").out.splitlines() == [
        "NODE     STATE   ADDRESSES", "node-1   ready   10.100.0.2", "node-2   off     10.100.0.3",
    ]  # fmt: skip
    assert [n["name"] for n in json.loads(portway("node", "list", "-o", "json").out)] == ["node-1", "node-2"]


PUBLISHED = [
    {
        "port": 8080, "protocol": "tcp", "address": "10.100.0.2", "target": 30080,
        "listening": True, "connections": 2, "error": "",
    },
    {
        "port": 5353, "protocol": "udp", "address": "10.3.240.10", "target": 53,
        "listening": False, "connections": 0, "error": "somebody listens there",
    },
]  # fmt: skip
PUBLISHED_TABLE = [
    "PUBLISHED            LEADS TO           STATE           OPEN   LAST ERROR",
    "127.0.0.1:8080/tcp   10.100.0.2:30080   listening       2",
    "127.0.0.1:5353/udp   10.3.240.10:53     not listening   0      somebody listens there",
]


def test_what_is_published_is_listed_and_in_the_status(portway: CommandLine, cluster: StandIn) -> None:
    cluster.answers |= {"published": PUBLISHED, "status": status(published=PUBLISHED)}
    assert portway("publish", "list").out.splitlines() == PUBLISHED_TABLE
    assert json.loads(portway("publish", "list", "-o", "json").out) == PUBLISHED
    assert portway("status").out.splitlines()[-3:] == PUBLISHED_TABLE
    assert json.loads(portway("status", "-o", "json").out)["published"] == PUBLISHED


def test_zones_are_a_column_where_there_are_zones(portway: CommandLine, cluster: StandIn) -> None:
    found = status()
    found["hosts"][1]["zone"] = "zone-a"
    cluster.answers["status"] = found
    assert portway("node", "list").out.splitlines() == [
        "NODE     STATE   ZONE     ADDRESSES", "node-1   ready   zone-a   10.100.0.2", "node-2   off     -        10.100.0.3",
    ]  # fmt: skip
    assert "client   client   ready   -        198.51.100.10" in portway("status").out


def test_publish_for_a_cluster_that_is_up_is_told_and_not_done(portway: CommandLine, cluster: StandIn) -> None:
    said = portway("up", "--publish", "8080:10.100.0.2:30080")
    assert said.code == 0
    assert said.err == "nothing more is published now: portway publish add 8080:10.100.0.2:30080\n"
    assert [r["op"] for r in cluster.asked] == ["status"]


def test_a_refusal_of_the_supervisor_is_one_line(portway: CommandLine, cluster: StandIn) -> None:
    cluster.answers["node-stop"] = Refused("there is no node 'node-9': it has node-1, node-2")
    said = portway("node", "stop", "node-9")
    assert (said.code, said.err) == (1, "portway: there is no node 'node-9': it has node-1, node-2\n")


def test_kubectl_gets_its_words_untouched(
    portway: CommandLine, cluster: StandIn, became: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBECACHEDIR", raising=False)
    assert portway("kubectl", "get", "pods", "-o", "json", "--help").code == 99
    ((binary, *words),) = became
    assert Path(binary).name == "kubectl"
    assert words == ["get", "pods", "-o", "json", "--help"]
    assert os.environ["KUBECONFIG"] == str(cluster.place.kubeconfig)
    assert os.environ["KUBECACHEDIR"] == str(cluster.place.kubectl_cache)


def test_exec_in_a_pod_is_kubectls(portway: CommandLine, cluster: StandIn, became: list[list[str]]) -> None:
    portway("exec", "pod/shop/web-1/app", "--", "ls", "-l")
    portway("exec", "pod/shop/web-1", "--", "ls")
    assert [words[1:] for words in became] == [
        ["exec", "--quiet", "-n", "shop", "-i", "web-1", "-c", "app", "--", "ls", "-l"],
        ["exec", "--quiet", "-n", "shop", "-i", "web-1", "--", "ls"],
    ]
    for nonsense in ("pod/", "pod/a", "pod/a//b", "pod/a/b/c/d"):
        said = portway("exec", nonsense, "--", "ls")
        assert (said.code, len(became)) == (1, 2)
        assert "write pod/NAMESPACE/NAME" in said.err


def test_exec_on_a_host_that_is_not_there_or_off(portway: CommandLine, cluster: StandIn) -> None:
    assert "choose one of client, node-1, node-2" in portway("exec", "node-9", "--", "true").err
    assert "node-2 is switched off: portway node start node-2" in portway("exec", "node-2", "--", "true").err


def test_exec_enters_the_hosts_namespace(
    portway: CommandLine, cluster: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[tuple[int, str, list[str], Folder]] = []
    monkeypatch.setattr(main, "enter", lambda *words: entered.append(words))
    portway("exec", "node-1", "--", "cat", "-n", "/proc/net/route")
    ((pid, namespace, command, place),) = entered
    assert (namespace, command) == ("/proc/1/fd/6", ["cat", "-n", "/proc/net/route"])
    assert place == cluster.place
    assert pid == os.getpid()


def test_a_bug_is_called_a_bug_and_leaves_its_trace(
    portway: CommandLine, home: Path, cluster: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr(session.Session, "running", broken)
    said = portway("kubeconfig")
    assert said.code == 70
    assert "ZeroDivisionError: surprise; this is a bug, please report it" in said.err
    assert "Traceback" not in said.err
    assert "Traceback" in (home / "bug.log").read_text()


def test_version(portway: CommandLine) -> None:
    assert portway("version").out.startswith("portway ")
    assert set(json.loads(portway("version", "-o", "json").out)) == {"portway", "kubectl", "python", "kernel"}


def test_help_imports_nothing_heavy() -> None:
    """What makes a command slow is what it imports: none of the agents, no event loop, no TLS, no tables."""
    code = "import sys; import portway.cli.main; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {
        "asyncio",
        "ctypes",
        "importlib.metadata",
        "ssl",
        "aiohttp",
        "cryptography",
        "yaml",
        "rich",
        "sqlite3",
        "portway.netns.kernel",
        "portway.apiserver",
    }
    assert loaded & heavy == set()
