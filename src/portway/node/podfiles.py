"""The three files that make a container know its name and the cluster's: /etc/hostname, /etc/hosts, /etc/resolv.conf.
Pure; used by `pod`.
"""

from __future__ import annotations

from portway.objects.core import Pod


def hostname(pod: Pod, node: str) -> str:
    """The pod's own name for itself; with hostNetwork the node's, as in Kubernetes."""
    if pod.spec.host_network:
        return node
    return (pod.spec.hostname or pod.name)[:63].rstrip("-.")


def etc_files(pod: Pod, pod_ip: str, node: str, *, cluster_dns: str, cluster_domain: str) -> dict[str, str]:
    """Path → text. resolv.conf is left to the machine's where the pod asks for that."""
    files = {"/etc/hostname": hostname(pod, node) + "\n", "/etc/hosts": _hosts(pod, pod_ip, node, cluster_domain)}
    policy = pod.spec.dns_policy or "ClusterFirst"
    if policy == "None":
        files["/etc/resolv.conf"] = ""
    elif policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not pod.spec.host_network):
        search = f"{pod.namespace}.svc.{cluster_domain} svc.{cluster_domain} {cluster_domain}"
        files["/etc/resolv.conf"] = f"search {search}\nnameserver {cluster_dns}\noptions ndots:5\n"
    return files


def _hosts(pod: Pod, pod_ip: str, node: str, domain: str) -> str:
    own = hostname(pod, node)
    full = f"{own}.{pod.spec.subdomain}.{pod.namespace}.svc.{domain} " if pod.spec.subdomain else ""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", f"{pod_ip}\t{full}{own}"]
    for alias in pod.spec.host_aliases or ():
        lines.append("\t".join((str(alias.get("ip", "")), *map(str, alias.get("hostnames") or ()))))
    return "\n".join(lines) + "\n"
