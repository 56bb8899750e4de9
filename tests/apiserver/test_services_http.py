"""Services over HTTP: addresses and node ports come with the answer, refusals take nothing (step 7 of the road)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from build_apiserver import Served, serving
from portway.apiserver.allocation import PortRange
from portway.apiserver.server import ServerConfig

SERVICES = "/api/v1/namespaces/default/services"
NETWORK = IPv4Network("10.3.240.0/20")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    ports = [{"port": 80, "protocol": "TCP", "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"a": "b"}, "ports": ports, **spec},
    }


def ports(**node_ports: int) -> list[dict[str, Any]]:
    return [
        {"name": n, "port": 80 + i, "protocol": "TCP", "nodePort": p} for i, (n, p) in enumerate(node_ports.items())
    ]


async def refused(api: Served, body: dict[str, Any], method: str = "POST", path: str = SERVICES) -> tuple[int, str]:
    answer = await api.call(method, path, body)
    if answer.code < 400:
        raise RuntimeError(f"was accepted: {answer.body}")
    return answer.code, answer.body["message"]


async def test_a_service_gets_an_address_and_its_families(api: Served) -> None:
    spec = (await api.create(SERVICES, service()))["spec"]
    assert IPv4Address(spec["clusterIP"]) in NETWORK
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert (spec["type"], spec["ipFamilies"], spec["ipFamilyPolicy"]) == ("ClusterIP", ["IPv4"], "SingleStack")
    assert spec["sessionAffinity"] == "None" and spec["internalTrafficPolicy"] == "Cluster"
    assert "nodePort" not in spec["ports"][0]


async def test_addresses_come_from_above_the_static_band(api: Served) -> None:
    for i in range(40):
        spec = (await api.create(SERVICES, service(f"s{i}")))["spec"]
        assert int(IPv4Address(spec["clusterIP"])) - int(NETWORK.network_address) > 256


async def test_five_hundred_creates_at_once_get_five_hundred_addresses_and_ports(api: Served) -> None:
    made = await asyncio.gather(*(api.create(SERVICES, service(f"s{i}", type="NodePort")) for i in range(500)))
    assert len({s["spec"]["clusterIP"] for s in made}) == 500
    assert len({s["spec"]["ports"][0]["nodePort"] for s in made}) == 500


async def test_a_chosen_address_is_honoured_even_in_the_band(api: Served) -> None:
    assert (await api.create(SERVICES, service(clusterIP="10.3.240.11")))["spec"]["clusterIPs"] == ["10.3.240.11"]


async def test_an_address_that_is_taken_or_foreign(api: Served) -> None:
    await api.create(SERVICES, service("first", clusterIP="10.3.240.5"))
    assert await refused(api, service(clusterIP="10.3.240.5")) == (
        422,
        'Service "web" is invalid: spec.clusterIPs: Invalid value: ["10.3.240.5"]: '
        "failed to allocate IP 10.3.240.5: provided IP is already allocated",
    )
    code, message = await refused(api, service(clusterIP="10.9.9.9"))
    assert code == 422
    assert message.endswith(
        "failed to allocate IP 10.9.9.9: the provided IP (10.9.9.9) is not in the valid range. "
        "The range of valid IPs is 10.3.240.0/20"
    )
    await api.call("DELETE", f"{SERVICES}/first")
    assert (await api.create(SERVICES, service(clusterIP="10.3.240.5")))["spec"]["clusterIP"] == "10.3.240.5"


async def test_a_headless_service_has_none(api: Served) -> None:
    spec = (await api.create(SERVICES, service(clusterIP="None")))["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"], spec["ipFamilyPolicy"]) == ("None", ["None"], "SingleStack")


async def test_a_node_port_is_given_above_its_band(api: Served) -> None:
    spec = (await api.create(SERVICES, service(type="NodePort")))["spec"]
    assert 30086 <= spec["ports"][0]["nodePort"] <= 32767
    assert spec["externalTrafficPolicy"] == "Cluster"


async def test_a_node_port_outside_the_range(api: Served) -> None:
    assert await refused(api, service(type="NodePort", ports=ports(a=99))) == (
        422,
        'Service "web" is invalid: spec.ports[0].nodePort: Invalid value: 99: provided port is not in the valid range. '
        "The range of valid ports is 30000-32767",
    )


async def test_a_taken_node_port_leaves_nothing_behind(api: Served) -> None:
    await api.create(SERVICES, service("first", type="NodePort", ports=ports(a=30001)))
    both = ports(a=30002, b=30001)
    assert await refused(api, service(type="NodePort", clusterIP="10.3.240.7", ports=both)) == (
        422,
        'Service "web" is invalid: spec.ports[1].nodePort: Invalid value: 30001: provided port is already allocated',
    )
    await api.create(SERVICES, service("second", type="NodePort", clusterIP="10.3.240.7", ports=ports(a=30002)))


async def test_node_ports_used_up(tmp_path: Path) -> None:
    async with serving(tmp_path, config=ServerConfig(node_ports=PortRange(30000, 30019))) as api:
        for i in range(20):
            await api.create(SERVICES, service(f"s{i}", type="NodePort"))
        addresses = api.server.rest._taken.addresses.total()
        code, message = await refused(api, service(type="NodePort"))
        assert (code, message) == (500, "Internal error occurred: failed to allocate a nodePort: range is full")
        assert api.server.rest._taken.addresses.total() == addresses
        await api.call("DELETE", f"{SERVICES}/s7")
        await api.create(SERVICES, service(type="NodePort"))


async def test_addresses_used_up(tmp_path: Path) -> None:
    async with serving(tmp_path, config=ServerConfig(services=IPv4Network("10.3.240.0/29"))) as api:
        for i in range(5):
            await api.create(SERVICES, service(f"s{i}"))
        code, message = await refused(api, service())
        assert (code, message) == (500, "Internal error occurred: failed to allocate a serviceIP: range is full")


async def test_a_dry_run_takes_nothing(api: Served) -> None:
    body = service(type="NodePort", clusterIP="10.3.240.9", ports=ports(a=30003))
    answer = await api.call("POST", f"{SERVICES}?dryRun=All", body)
    assert answer.code == 201 and answer.body["spec"]["clusterIP"] == "10.3.240.9"
    await api.create(SERVICES, body)


async def test_an_update_without_the_allocated_values_keeps_them(api: Served) -> None:
    made = await api.create(SERVICES, service(type="NodePort"))
    answer = await api.call("PUT", f"{SERVICES}/web", service(type="NodePort", selector={"a": "c"}))
    assert answer.code == 200
    for name in ("clusterIP", "clusterIPs", "ports", "ipFamilies"):
        assert answer.body["spec"][name] == made["spec"][name]


async def test_a_change_of_type_takes_and_frees_node_ports(api: Served) -> None:
    made = await api.create(SERVICES, service())
    exposed = await api.patch(f"{SERVICES}/web", {"spec": {"type": "NodePort"}})
    port = exposed.body["spec"]["ports"][0]["nodePort"]
    assert port >= 30000 and exposed.body["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    back = await api.patch(f"{SERVICES}/web", {"spec": {"type": "ClusterIP"}})
    assert back.code == 200 and "nodePort" not in back.body["spec"]["ports"][0]
    assert "externalTrafficPolicy" not in back.body["spec"]
    await api.create(SERVICES, service("other", type="NodePort", ports=ports(a=port)))


async def test_an_external_name_frees_the_address(api: Served) -> None:
    await api.create(SERVICES, service(clusterIP="10.3.240.20"))
    change = {"spec": {"type": "ExternalName", "externalName": "example.com"}}
    answer = await api.patch(f"{SERVICES}/web", change)
    assert answer.code == 200 and "clusterIP" not in answer.body["spec"] and "ipFamilies" not in answer.body["spec"]
    await api.create(SERVICES, service("other", clusterIP="10.3.240.20"))
    again = await api.patch(f"{SERVICES}/web", {"spec": {"type": "ClusterIP", "externalName": None}})
    assert IPv4Address(again.body["spec"]["clusterIP"]) in NETWORK


async def test_tcp_and_udp_of_one_service_share_a_node_port(api: Served) -> None:
    both = [{"name": p, "port": 53, "protocol": p.upper()} for p in ("tcp", "udp")]
    spec = (await api.create(SERVICES, service(type="NodePort", ports=both)))["spec"]
    assert spec["ports"][0]["nodePort"] == spec["ports"][1]["nodePort"]
    explicit = [{**p, "port": 54, "nodePort": 30053} for p in both]
    made = await api.create(SERVICES, service("other", type="NodePort", ports=explicit))
    assert [p["nodePort"] for p in made["spec"]["ports"]] == [30053, 30053]


async def test_a_new_port_of_an_update_gets_its_own_number(api: Served) -> None:
    made = await api.create(SERVICES, service(type="NodePort"))
    first = made["spec"]["ports"][0]
    wanted = {
        **made,
        "spec": {**made["spec"], "ports": [{**first, "name": "a"}, {"name": "b", "port": 81, "protocol": "TCP"}]},
    }
    answer = await api.call("PUT", f"{SERVICES}/web", wanted)
    numbers = [p["nodePort"] for p in answer.body["spec"]["ports"]]
    assert numbers[0] == first["nodePort"] and numbers[1] not in (0, numbers[0])


async def test_a_changed_cluster_ip_is_refused(api: Served) -> None:
    made = await api.create(SERVICES, service())
    code, message = await refused(
        api,
        {**made, "spec": {**made["spec"], "clusterIP": "10.3.240.9", "clusterIPs": ["10.3.240.9"]}},
        "PUT",
        f"{SERVICES}/web",
    )
    assert code == 422 and "may not change once set" in message


async def test_two_families_are_refused_on_this_cluster(api: Served) -> None:
    code, message = await refused(api, service(ipFamilyPolicy="RequireDualStack"))
    assert code == 422 and "this cluster is not configured for dual-stack services" in message
    code, message = await refused(api, service(ipFamilies=["IPv6"]))
    assert code == 422 and "not configured on this cluster" in message
    spec = (await api.create(SERVICES, service(ipFamilyPolicy="PreferDualStack")))["spec"]
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4"], "PreferDualStack")


async def test_a_local_load_balancer_gets_a_health_check_port(api: Served) -> None:
    spec = (await api.create(SERVICES, service(type="LoadBalancer", externalTrafficPolicy="Local")))["spec"]
    assert 30000 <= spec["healthCheckNodePort"] <= 32767 and spec["healthCheckNodePort"] != spec["ports"][0]["nodePort"]
    assert spec["allocateLoadBalancerNodePorts"] is True
    none = (await api.create(SERVICES, service("n", type="LoadBalancer", allocateLoadBalancerNodePorts=False)))["spec"]
    assert "nodePort" not in none["ports"][0]


BALANCED = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "portway.dev/lab"}
GONE = ("healthCheckNodePort", "allocateLoadBalancerNodePorts", "loadBalancerClass", "externalTrafficPolicy")


@pytest.mark.parametrize(
    ("to", "stays"), [("ClusterIP", ()), ("NodePort", ("externalTrafficPolicy",)), ("ExternalName", ())]
)
async def test_a_load_balancer_that_changes_its_type_gives_everything_back(
    api: Served, to: str, stays: tuple[str, ...]
) -> None:
    before = (await api.create(SERVICES, service(**BALANCED)))["spec"]
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.2"}]}}}
    assert (await api.patch(f"{SERVICES}/web/status", status)).code == 200
    change = {"spec": {"type": to} | ({"externalName": "a.example.com"} if to == "ExternalName" else {})}
    changed = (await api.patch(f"{SERVICES}/web", change)).body
    assert changed["status"]["loadBalancer"] == {}
    assert not [f for f in GONE if f in changed["spec"] and f not in stays]
    assert ("nodePort" in changed["spec"]["ports"][0]) is (to == "NodePort")
    health = before["healthCheckNodePort"]
    again = await api.create(SERVICES, service("b", type="NodePort", ports=ports(a=health)))
    assert again["spec"]["ports"][0]["nodePort"] == health, "the port is free at once"


async def test_a_health_check_port_is_kept_asked_for_and_immutable(api: Served) -> None:
    asked = (await api.create(SERVICES, service(**BALANCED, healthCheckNodePort=30123)))["spec"]
    assert asked["healthCheckNodePort"] == 30123
    answer = await api.patch(f"{SERVICES}/web", {"spec": {"healthCheckNodePort": 30124}})
    assert answer.code == 422 and "field is immutable" in answer.body["message"]
    cluster = (await api.patch(f"{SERVICES}/web", {"spec": {"externalTrafficPolicy": "Cluster"}})).body["spec"]
    assert "healthCheckNodePort" not in cluster
    back = (await api.patch(f"{SERVICES}/web", {"spec": {"externalTrafficPolicy": "Local"}})).body["spec"]
    assert 30000 <= back["healthCheckNodePort"] <= 32767


async def test_node_ports_of_a_load_balancer_may_be_left_out_and_come_later(api: Served) -> None:
    without = service(type="LoadBalancer", allocateLoadBalancerNodePorts=False)
    assert "nodePort" not in (await api.create(SERVICES, without))["spec"]["ports"][0]
    later = (await api.patch(f"{SERVICES}/web", {"spec": {"allocateLoadBalancerNodePorts": True}})).body["spec"]
    number = later["ports"][0]["nodePort"]
    kept = (await api.patch(f"{SERVICES}/web", {"spec": {"allocateLoadBalancerNodePorts": False}})).body["spec"]
    assert kept["ports"][0]["nodePort"] == number, "what was given stays until somebody takes it away"


async def test_what_is_taken_is_known_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        await api.create(SERVICES, service(type="NodePort", clusterIP="10.3.240.30", ports=ports(a=30030)))
    async with serving(tmp_path) as api:
        assert "already allocated" in (await refused(api, service("b", clusterIP="10.3.240.30")))[1]
        assert "already allocated" in (await refused(api, service("b", type="NodePort", ports=ports(a=30030))))[1]


async def test_the_service_kubernetes_leads_to_this_server(api: Served) -> None:
    spec = (await api.get(f"{SERVICES}/kubernetes")).body["spec"]
    assert spec["clusterIP"] == "10.3.240.1" and spec["ports"][0] == {
        "name": "https",
        "port": 443,
        "protocol": "TCP",
        "targetPort": 6443,
    }
    subsets = (await api.get("/api/v1/namespaces/default/endpoints/kubernetes")).body["subsets"]
    assert subsets[0]["addresses"] == [{"ip": "10.100.0.1"}]


async def test_a_new_address_of_the_server_is_published_at_the_next_start(tmp_path: Path) -> None:
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
    async with serving(tmp_path) as api:
        before = (await api.get(slices)).body
    async with serving(tmp_path) as api:
        assert (await api.get(slices)).body == before
    async with serving(tmp_path, config=ServerConfig(advertise=("10.100.0.9", 7443))) as api:
        after = (await api.get(slices)).body
    assert after["endpoints"][0]["addresses"] == ["10.100.0.9"] and after["ports"][0]["port"] == 7443
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
