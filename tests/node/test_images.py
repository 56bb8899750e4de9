"""What an image name runs, and what is said when it is not mapped."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from portway.node.images import ImageReason, Images, Launch, MappingError, Program, Unknown, parse_mapping

IMAGES = Images.with_mappings({"web": Program(entrypoint=("/opt/web", "--quiet")), "tools": Program(path="/opt/tools")})

LAUNCHES = (
    ("a mapped command", "web", (), (), ("/opt/web", "--quiet")),
    ("args follow a mapped command", "web", (), ("-v",), ("/opt/web", "--quiet", "-v")),
    ("a command replaces everything", "web", ("/bin/sh",), (), ("/bin/sh",)),
    ("command and args", "web", ("/bin/sh",), ("-c", "ls"), ("/bin/sh", "-c", "ls")),
    ("an unknown image with a command", "nobody/knows:1", ("/bin/true",), (), ("/bin/true",)),
    ("python alone", "python:3.11", (), (), ("python3",)),
    ("args replace python's default", "python", (), ("python3", "-V"), ("python3", "-V")),
    ("a folder with a command", "tools", ("hammer",), (), ("hammer",)),
    ("a tag is ignored", "web:1.2", (), (), ("/opt/web", "--quiet")),
    ("a digest is ignored", "web@sha256:abc", (), (), ("/opt/web", "--quiet")),
    ("the default registry is ignored", "docker.io/library/web:1", (), (), ("/opt/web", "--quiet")),
)


@pytest.mark.parametrize(("story", "image", "command", "args", "argv"), LAUNCHES, ids=[row[0] for row in LAUNCHES])
def test_what_runs(
    story: str, image: str, command: tuple[str, ...], args: tuple[str, ...], argv: tuple[str, ...]
) -> None:
    launch = IMAGES.launch(image, command, args)
    assert isinstance(launch, Launch)
    assert launch.argv == argv


def test_an_unknown_image_says_how_to_map_it() -> None:
    answer = IMAGES.launch("registry.example.com:5000/shop/cart:2.1", (), ("serve",))
    assert isinstance(answer, Unknown)
    assert answer.reason is ImageReason.UNKNOWN
    assert "portway up --image registry.example.com:5000/shop/cart=COMMAND" in answer.message


def test_a_folder_without_a_command_says_so() -> None:
    answer = IMAGES.launch("tools", (), ())
    assert isinstance(answer, Unknown)
    assert "folder /opt/tools" in answer.message


def test_python_is_the_interpreter_itself() -> None:
    launch = IMAGES.launch("python:3.11", ("python3", "-V"), ())
    assert isinstance(launch, Launch)
    assert (Path(launch.path) / "python3").exists()
    assert str(Path(launch.path).parent) in (sys.base_prefix, sys.prefix)


def test_echo_wants_to_know_who_it_is() -> None:
    launch = IMAGES.launch("portway/echo:latest", (), ())
    assert isinstance(launch, Launch)
    assert launch.identity
    assert launch.argv[0] == sys.executable
    other = IMAGES.launch("web", (), ())
    assert isinstance(other, Launch)
    assert not other.identity


def test_an_exact_tag_wins() -> None:
    images = Images.with_mappings({"web": Program(entrypoint=("old",)), "web:2": Program(entrypoint=("new",))})
    two, one = images.launch("web:2", (), ()), images.launch("web:1", (), ())
    assert isinstance(two, Launch) and isinstance(one, Launch)
    assert (two.argv, one.argv) == (("new",), ("old",))


def test_mappings_of_the_command_line(tmp_path: Path) -> None:
    assert parse_mapping("web=python3 -m http.server 'my folder'") == (
        "web",
        Program(entrypoint=("python3", "-m", "http.server", "my folder")),
    )
    assert parse_mapping(f"tools:1={tmp_path}") == ("tools:1", Program(path=str(tmp_path)))
    assert parse_mapping("a=b=c") == ("a", Program(entrypoint=("b=c",)))


@pytest.mark.parametrize("text", ["", "web", "web=", "=ls", "web='unclosed"])
def test_bad_mappings_show_the_form(text: str) -> None:
    with pytest.raises(MappingError, match="--image"):
        parse_mapping(text)
