"""`kubectl logs` and `exec` to the right node: the API server has one `PodStreams`, every node agent is another.

Stands for the network between an API server and the kubelets' port 10250. A node that is switched off answers as an
unreachable kubelet would: 502, with the node's name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from portway.apiserver.streams import ExecRequest, ExecSession, LogRequest, PodContainer, PodStreams, StreamRefused


class NodeStreams:
    """Satisfies `PodStreams` by asking the node that the pod is bound to."""

    def __init__(self) -> None:
        self._nodes: dict[str, PodStreams] = {}

    def connect(self, node: str, streams: PodStreams) -> None:
        self._nodes[node] = streams

    def disconnect(self, node: str) -> None:
        self._nodes.pop(node, None)

    async def logs(self, request: LogRequest) -> AsyncIterator[bytes]:
        async for chunk in self._of(request.target).logs(request):
            yield chunk

    async def exec(self, request: ExecRequest) -> ExecSession:
        return await self._of(request.target).exec(request)

    async def attach(self, request: ExecRequest) -> ExecSession:
        return await self._of(request.target).attach(request)

    def _of(self, target: PodContainer) -> PodStreams:
        found = self._nodes.get(target.node)
        if found is None:
            raise StreamRefused(
                f"pod {target.namespace}/{target.pod}: {target.node or 'no node'} does not answer; "
                "is it switched on (portway node list)?",
                502,
            )
        return found
