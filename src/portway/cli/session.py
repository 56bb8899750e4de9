"""The cluster that a command speaks of: its folder, what `state.json` says, and whether its supervisor runs.

Every command of `main` starts here. "Not up" is one error with one cure, whatever the command.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from portway.cli.enter import become
from portway.cli.errors import UserError
from portway.cli.kubectl import kubectl_binary
from portway.lab import ask, state
from portway.lab.state import Folder, State

DEFAULT_NAME = "portway"


@dataclass(frozen=True, slots=True)
class Session:
    """One cluster by name."""

    home: Path
    folder: Folder

    @classmethod
    def of(cls, name: str) -> Session:
        home = state.home(os.environ)
        return cls(home, state.folder(home, name))

    @property
    def named(self) -> str:
        """What to add to a command so that it speaks of this cluster."""
        return "" if self.folder.name == DEFAULT_NAME else f" --name {self.folder.name}"

    def load(self) -> State | None:
        return state.load(self.folder)

    def running(self) -> State:
        """The state of a cluster that is up. UserError when it is not."""
        found = self.load()
        if found is None:
            raise UserError(f"no cluster is up: run portway up{self.named}")
        if state.running(found) is None:
            raise UserError(
                f"the supervisor of {self.folder.name} has ended (see {self.folder.log}): "
                f"portway up{self.named} starts it again with its objects, portway down{self.named} removes it"
            )
        return found

    def call(self, op: str, *, timeout: float = 30.0, **fields: Any) -> Any:
        """Ask the supervisor."""
        self.running()
        try:
            return ask.call(self.folder.control, op, timeout=timeout, **fields)
        except ask.NotRunning as e:
            raise UserError(f"{e}; see {self.folder.log}, or end it with portway down{self.named}") from e
        except ask.Refused as e:
            raise UserError(str(e)) from e

    def kubectl(self, arguments: Sequence[str]) -> NoReturn:
        """Become the bundled kubectl, speaking to this cluster."""
        self.running()
        os.environ["KUBECONFIG"] = str(self.folder.kubeconfig)
        os.environ.setdefault("KUBECACHEDIR", str(self.folder.kubectl_cache))
        become([kubectl_binary(), *arguments])
