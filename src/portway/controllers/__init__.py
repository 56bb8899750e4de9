"""The embedded control plane: deployments, replica sets, endpoints, nodes, scheduling, garbage, namespaces.

    from portway.controllers import Settings, run
    await run(client, Settings(node_grace=4.0), SystemClock())

Each controller is a pure module that decides and a `…_run` module that reads shared views and writes. The lab's
supervisor calls `run`.
"""

from portway.controllers.run import run, run_world
from portway.controllers.world import Settings, World

__all__ = ["Settings", "World", "run", "run_world"]
