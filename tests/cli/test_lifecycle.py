"""`portway up` around the launch: images are checked first, progress is told, an interruption is one line."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from build_cli import CommandLine, stand_in, status
from portway.cli.errors import UserError
from portway.cli.lifecycle import parse_images
from portway.lab import launch, state
from portway.lab.launch import LaunchError, Order, Step
from portway.lab.state import Folder


@pytest.fixture
def portway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.setenv("PORTWAY_HOME", str(tmp_path))
    monkeypatch.delenv("PORTWAY_NAME", raising=False)
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """What was ordered; every launch takes two steps."""
    found: list[Order] = []

    def up(place: Folder, order: Order) -> Generator[Step, None, None]:
        found.append(order)
        yield Step("network: client, edge, node-1", 0.5)
        yield Step("ready", 1.25)

    monkeypatch.setattr(launch, "up", up)
    return found


def test_progress_and_what_to_do_next(portway: CommandLine, orders: list[Order], tmp_path: Path) -> None:
    said = portway("up", "--nodes", "3", "--timeout", "9", "--image", "web:1=python3 -m http.server", "--userns")
    assert said.code == 0
    assert said.err.splitlines() == ["  0.50 s  network: client, edge, node-1", "  1.25 s  ready"]
    assert f"export KUBECONFIG={tmp_path}/portway/kubeconfig" in said.out
    assert orders == [Order(3, {"web:1": "python3 -m http.server"}, True, 9.0)]


def test_the_defaults(portway: CommandLine, orders: list[Order], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "wants_user_namespace", lambda _: False)
    portway("up")
    assert orders == [Order(None, {}, False, 60.0)]


def test_zones_and_what_is_published(portway: CommandLine, orders: list[Order]) -> None:
    published = ("--publish", "8080:10.100.0.2:30080/tcp", "--publish", "5353:10.3.240.10:53/udp")
    assert portway("up", "--zones", "3", *published).code == 0
    assert orders[0].zones == 3
    assert orders[0].publish == ("8080:10.100.0.2:30080", "5353:10.3.240.10:53/udp")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--publish", "8080"), "publishes nothing: write --publish PORT:ADDRESS:PORT"),
        (("--publish", "80:10.0.1.2:80", "--publish", "80:10.0.1.3:80"), "want one port"),
        (("--zones", "0"), "--zones"),
        (("--zones", "27"), "--zones"),
    ],
)
def test_words_that_cannot_be_start_nothing(
    portway: CommandLine, orders: list[Order], words: tuple[str, ...], says: str
) -> None:
    said = portway("up", *words)
    assert said.code == 2
    assert says in said.err
    assert orders == []


def test_while_a_cluster_comes_up_nobody_else_may(
    portway: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def up(place: Folder, order: Order) -> Generator[Step, None, None]:
        with pytest.raises(state.Locked), state.lock(tmp_path):
            pass
        yield Step("ready", 1.0)

    monkeypatch.setattr(launch, "up", up)
    assert portway("up").code == 0


@pytest.mark.parametrize("answer", [{"up": False}, None], ids=["has lost its up", "does not answer"])
def test_a_supervisor_that_is_ending_is_not_up(
    portway: CommandLine, orders: list[Order], tmp_path: Path, answer: dict[str, object] | None
) -> None:
    with stand_in(tmp_path) as ending:
        if answer is None:
            ending.place.control.unlink()
        else:
            ending.answers["status"] = status(**answer)
        said = portway("up")
    assert said.code == 0
    assert "already up" not in said.out
    assert len(orders) == 1, "launch waits for its end and starts another one"


def test_a_second_up_waits_for_the_first(
    portway: CommandLine, orders: list[Order], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    @contextmanager
    def lock(home: Path, seconds: float = 0.0) -> Iterator[None]:
        waited.append(seconds)
        with stand_in(tmp_path):  # the first one is ready by now
            yield

    monkeypatch.setattr(state, "lock", lock)
    said = portway("up", "--timeout", "9")
    assert "portway is already up: 2 nodes" in said.out
    assert waited[0] > 9
    assert orders == []


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "portway: interrupted: what was started is gone again\n"),
        (LaunchError("veth missing: modprobe veth"), 1, "portway: veth missing: modprobe veth\n"),
    ],
)
def test_what_goes_wrong_is_one_line(
    portway: CommandLine, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str
) -> None:
    closed: list[bool] = []

    def up(place: Folder, order: Order) -> Generator[Step, None, None]:
        try:
            yield Step("network", 0.1)
            raise error
        finally:
            closed.append(True)

    monkeypatch.setattr(launch, "up", up)
    said = portway("up")
    assert (said.code, said.err.splitlines(keepends=True)[1:]) == (code, [says])
    assert closed


@pytest.mark.parametrize(("ended", "says"), [(True, "; its supervisor is ended\n"), (False, "portway.old\n")])
def test_down_ends_what_a_damaged_state_does_not_name_and_wipes_nothing(
    portway: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool, says: str
) -> None:
    place = state.folder(tmp_path, "portway")
    state.prepare(place)
    place.state_file.write_text("{ this is not JSON")
    monkeypatch.setattr(launch, "end", lambda *_: ended)
    said = portway("down")
    assert said.code == 1
    assert "state.json is damaged" in said.err
    assert said.err.endswith(says)
    assert place.state_file.read_text() == "{ this is not JSON"


def test_images_by_name() -> None:
    assert parse_images(["a=x", "b:1=y -z", "a=last wins"]) == {"a": "last wins", "b:1": "y -z"}
    assert parse_images(["web=cmd --flag=value"]) == {"web": "cmd --flag=value"}


@pytest.mark.parametrize("word", ["nothing", "=command", "name=", "name='unclosed"])
def test_images_that_name_no_program(word: str) -> None:
    with pytest.raises(UserError, match="--image") as caught:
        parse_images([word])
    assert caught.value.code == 2
