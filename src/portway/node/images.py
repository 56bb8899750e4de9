"""What a container's `image` means here: the name of a program on this machine, not a download.

The map is built once per agent: the built-in images, then what the user adds with `portway up --image NAME=COMMAND` (or
NAME=DIRECTORY). `launch` answers what to run for a container, or why not. Pure; called by `pod`.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class ImageReason(StrEnum):
    """Why there is nothing to run: the reasons that Kubernetes shows for an image that cannot be had."""

    UNKNOWN = "ErrImagePull"
    BACK_OFF = "ImagePullBackOff"


@dataclass(frozen=True, slots=True)
class Program:
    """What a name stands for. `entrypoint` cannot be replaced by `args`, `default` can; `path` goes in front of PATH.

    `identity`: the program wants to know POD_NAME, POD_NAMESPACE and NODE_NAME."""

    entrypoint: tuple[str, ...] = ()
    default: tuple[str, ...] = ()
    path: str = ""
    identity: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """An argument list, before `$(VAR)` is expanded, and what the image adds to the environment."""

    argv: tuple[str, ...]
    path: str = ""
    identity: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing to run. The message says how to change that."""

    reason: ImageReason
    message: str


class MappingError(ValueError):
    """A `--image` argument that says nothing; the message shows the form."""


def _python_folder() -> str:
    """The folder of the interpreter itself, not of a virtual environment or a version manager's wrapper: it starts at once."""
    folder = Path(sys.base_prefix) / "bin"
    return str(folder if (folder / "python3").exists() else Path(sys.executable).parent)


def built_in() -> dict[str, Program]:
    """The images that need no mapping."""
    source = str(Path(__file__).parent.parent.parent)
    echo = f"import sys; sys.path.insert(0, {source!r}); from portway.node.echo import main; main()"
    return {
        "portway/echo": Program(entrypoint=(sys.executable, "-I", "-S", "-c", echo), identity=True),
        "python": Program(default=("python3",), path=_python_folder()),
    }


def parse_mapping(text: str) -> tuple[str, Program]:
    """ "NAME=COMMAND" or "NAME=DIRECTORY" (an absolute path of a folder, which goes in front of PATH)."""
    name, equals, value = text.partition("=")
    try:
        words = tuple(shlex.split(value))
    except ValueError as e:
        raise MappingError(f"--image {text}: {e}") from e
    if not name or not equals or not words:
        raise MappingError(
            f"--image {text}: write NAME=COMMAND or NAME=DIRECTORY, such as web='python3 -m http.server 8080'"
        )
    if len(words) == 1 and words[0].startswith("/") and Path(words[0]).is_dir():
        return name, Program(path=words[0])
    return name, Program(entrypoint=words)


@dataclass(frozen=True, slots=True)
class Images:
    """The map of names to programs."""

    programs: Mapping[str, Program] = field(default_factory=built_in)

    @classmethod
    def with_mappings(cls, mappings: Mapping[str, Program]) -> Images:
        return cls({**built_in(), **mappings})

    def find(self, image: str) -> Program | None:
        """By the name as it is written, without the default registry, without digest, without tag: the first that is mapped."""
        return next((self.programs[name] for name in _names(image) if name in self.programs), None)

    def launch(self, image: str, command: tuple[str, ...], args: tuple[str, ...]) -> Launch | Unknown:
        """Kubernetes' rule: `command` replaces the image's entrypoint and default arguments, `args` the default arguments."""
        program = self.find(image)
        if command:
            return Launch((*command, *args), program.path if program else "", bool(program and program.identity))
        if program is None:
            return Unknown(
                ImageReason.UNKNOWN,
                f'image "{image}" is not mapped to a program: images are not downloaded here. Map it with '
                f"`portway up --image {_names(image)[-1]}=COMMAND`, or give the container a command",
            )
        argv = (*program.entrypoint, *(args or program.default))
        if not argv:
            return Unknown(
                ImageReason.UNKNOWN,
                f'image "{image}" is mapped to the folder {program.path}: give the container a command',
            )
        return Launch(argv, program.path, program.identity)


def _names(image: str) -> tuple[str, ...]:
    """The ways to say `image`, most exact first: "docker.io/library/python:3.11" is also "python:3.11" and "python"."""
    found = [image]
    for prefix in ("docker.io/library/", "docker.io/"):
        if image.startswith(prefix):
            found.append(image.removeprefix(prefix))
            break
    bare = found[-1].partition("@")[0]
    head, slash, last = bare.rpartition("/")
    return tuple(dict.fromkeys((*found, bare, f"{head}{slash}{last.partition(':')[0]}")))
