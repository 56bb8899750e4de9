"""Objects of the core group (`v1`): Service, Endpoints, Node, Pod, Namespace, Event, ConfigMap, Secret, and Lease.

Sources: kubernetes/api core/v1/types.go (1.37), coordination/v1.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from portway.objects.meta import Condition, Object, ObjectReference, Part, RawObject

IntOrString = int | str


class ServicePort(Part, frozen=True):
    name: str = ""
    protocol: str = "TCP"
    port: int = 0
    target_port: IntOrString | None = None
    node_port: int = 0
    app_protocol: str | None = None


class ClientIPConfig(Part, frozen=True):
    timeout_seconds: int | None = None


class SessionAffinityConfig(Part, frozen=True):
    client_ip: ClientIPConfig | None = msgspec.field(default=None, name="clientIP")


class ServiceSpec(Part, frozen=True):
    type: str = "ClusterIP"
    selector: dict[str, str] | None = None
    ports: tuple[ServicePort, ...] | None = None
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] | None = msgspec.field(default=None, name="clusterIPs")
    external_ips: tuple[str, ...] | None = msgspec.field(default=None, name="externalIPs")
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    external_name: str = ""
    external_traffic_policy: str = ""
    internal_traffic_policy: str = ""
    health_check_node_port: int = 0
    publish_not_ready_addresses: bool = False
    ip_families: tuple[str, ...] | None = None
    ip_family_policy: str | None = None
    load_balancer_class: str | None = None
    load_balancer_ip: str = msgspec.field(default="", name="loadBalancerIP")
    load_balancer_source_ranges: tuple[str, ...] | None = None
    allocate_load_balancer_node_ports: bool | None = None
    traffic_distribution: str | None = None


class LoadBalancerIngress(Part, frozen=True):
    ip: str = ""
    hostname: str = ""
    ip_mode: str | None = None


class LoadBalancerStatus(Part, frozen=True):
    ingress: tuple[LoadBalancerIngress, ...] | None = None


class ServiceStatus(Part, frozen=True):
    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    conditions: tuple[Condition, ...] | None = None


class Service(Object, frozen=True):
    KIND: ClassVar[str] = "Service"
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class EndpointAddress(Part, frozen=True):
    ip: str = ""
    hostname: str = ""
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class EndpointsPort(Part, frozen=True):
    name: str = ""
    port: int = 0
    protocol: str = "TCP"
    app_protocol: str | None = None


class EndpointSubset(Part, frozen=True):
    addresses: tuple[EndpointAddress, ...] | None = None
    not_ready_addresses: tuple[EndpointAddress, ...] | None = None
    ports: tuple[EndpointsPort, ...] | None = None


class Endpoints(Object, frozen=True):
    KIND: ClassVar[str] = "Endpoints"
    subsets: tuple[EndpointSubset, ...] | None = None


class Taint(Part, frozen=True):
    key: str = ""
    value: str = ""
    effect: str = ""
    time_added: str | None = None


class NodeSpec(Part, frozen=True):
    pod_cidr: str = msgspec.field(default="", name="podCIDR")
    pod_cidrs: tuple[str, ...] | None = msgspec.field(default=None, name="podCIDRs")
    unschedulable: bool = False
    taints: tuple[Taint, ...] | None = None


class NodeAddress(Part, frozen=True):
    type: str = ""
    address: str = ""


class NodeStatus(Part, frozen=True):
    addresses: tuple[NodeAddress, ...] | None = None
    conditions: tuple[Condition, ...] | None = None
    capacity: dict[str, str] | None = None
    allocatable: dict[str, str] | None = None


class Node(Object, frozen=True):
    KIND: ClassVar[str] = "Node"
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ContainerPort(Part, frozen=True):
    name: str = ""
    container_port: int = 0
    protocol: str = "TCP"
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")


class FieldRef(Part, frozen=True):
    api_version: str = ""
    field_path: str = ""


class KeyRef(Part, frozen=True):
    """`configMapKeyRef` and `secretKeyRef`."""

    name: str = ""
    key: str = ""
    optional: bool | None = None


class ResourceFieldRef(Part, frozen=True):
    container_name: str = ""
    resource: str = ""
    divisor: IntOrString | None = None


class EnvVarSource(Part, frozen=True):
    field_ref: FieldRef | None = None
    resource_field_ref: ResourceFieldRef | None = None
    config_map_key_ref: KeyRef | None = None
    secret_key_ref: KeyRef | None = None


class EnvVar(Part, frozen=True):
    name: str = ""
    value: str = ""
    value_from: EnvVarSource | None = None


class SourceRef(Part, frozen=True):
    name: str = ""
    optional: bool | None = None


class EnvFromSource(Part, frozen=True):
    prefix: str = ""
    config_map_ref: SourceRef | None = None
    secret_ref: SourceRef | None = None


class HTTPHeader(Part, frozen=True):
    name: str = ""
    value: str = ""


class HTTPGetAction(Part, frozen=True):
    path: str = "/"
    port: IntOrString = 0
    host: str = ""
    scheme: str = "HTTP"
    http_headers: tuple[HTTPHeader, ...] | None = None


class TCPSocketAction(Part, frozen=True):
    port: IntOrString = 0
    host: str = ""


class ExecAction(Part, frozen=True):
    command: tuple[str, ...] | None = None


class SleepAction(Part, frozen=True):
    seconds: int = 0


class Probe(Part, frozen=True):
    """Periods and time-outs in seconds; the defaults are those of the API."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(Part, frozen=True):
    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Part, frozen=True):
    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None


class VolumeMount(Part, frozen=True):
    name: str = ""
    mount_path: str = ""
    sub_path: str = ""
    read_only: bool = False


class Container(Part, frozen=True):
    name: str = ""
    image: str = ""
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    working_dir: str = ""
    ports: tuple[ContainerPort, ...] | None = None
    env: tuple[EnvVar, ...] | None = None
    env_from: tuple[EnvFromSource, ...] | None = None
    resources: RawObject | None = None
    volume_mounts: tuple[VolumeMount, ...] | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    restart_policy: str | None = None
    stdin: bool = False
    tty: bool = False


class Toleration(Part, frozen=True):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class PodSpec(Part, frozen=True):
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] | None = None
    volumes: tuple[RawObject, ...] | None = None
    node_name: str = ""
    node_selector: dict[str, str] | None = None
    affinity: RawObject | None = None
    tolerations: tuple[Toleration, ...] | None = None
    restart_policy: str = "Always"
    termination_grace_period_seconds: int | None = None
    host_network: bool = False
    hostname: str | None = None
    subdomain: str | None = None
    host_aliases: tuple[RawObject, ...] | None = None
    dns_policy: str = "ClusterFirst"
    dns_config: RawObject | None = None
    service_account_name: str = ""
    scheduler_name: str = ""


class ContainerStateRunning(Part, frozen=True):
    started_at: str | None = None


class ContainerStateWaiting(Part, frozen=True):
    reason: str = ""
    message: str = ""


class ContainerStateTerminated(Part, frozen=True):
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    container_id: str = msgspec.field(default="", name="containerID")


class ContainerState(Part, frozen=True):
    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(Part, frozen=True):
    name: str = ""
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    ready: bool = msgspec.field(default=False)
    restart_count: int = 0
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")
    container_id: str = msgspec.field(default="", name="containerID")
    started: bool | None = None


class PodIP(Part, frozen=True):
    ip: str = ""


class PodStatus(Part, frozen=True):
    phase: str = ""
    conditions: tuple[Condition, ...] | None = None
    message: str = ""
    reason: str = ""
    host_ip: str = msgspec.field(default="", name="hostIP")
    host_ips: tuple[PodIP, ...] | None = msgspec.field(default=None, name="hostIPs")
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] | None = msgspec.field(default=None, name="podIPs")
    start_time: str | None = None
    init_container_statuses: tuple[ContainerStatus, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None


class Pod(Object, frozen=True):
    KIND: ClassVar[str] = "Pod"
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class NamespaceSpec(Part, frozen=True):
    finalizers: tuple[str, ...] | None = None


class NamespaceStatus(Part, frozen=True):
    phase: str = ""


class Namespace(Object, frozen=True):
    KIND: ClassVar[str] = "Namespace"
    spec: NamespaceSpec = NamespaceSpec()
    status: NamespaceStatus = NamespaceStatus()


class ConfigMap(Object, frozen=True):
    KIND: ClassVar[str] = "ConfigMap"
    data: dict[str, str] | None = None
    binary_data: dict[str, str] | None = None


class Secret(Object, frozen=True):
    """`data` values are base64, as on the wire."""

    KIND: ClassVar[str] = "Secret"
    type: str = ""
    data: dict[str, str] | None = None


class EventSource(Part, frozen=True):
    component: str = ""
    host: str = ""


class Event(Object, frozen=True):
    KIND: ClassVar[str] = "Event"
    involved_object: ObjectReference = ObjectReference()
    reason: str = ""
    message: str = ""
    type: str = ""
    source: EventSource = EventSource()
    count: int = 0
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    reporting_component: str = ""
    reporting_instance: str = ""


class LeaseSpec(Part, frozen=True):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Object, frozen=True):
    KIND: ClassVar[str] = "Lease"
    spec: LeaseSpec = LeaseSpec()


class PodTemplateSpec(Part, frozen=True):
    """The template stays raw: whoever makes a pod from it must keep every field."""

    metadata: RawObject | None = None
    spec: RawObject | None = None
