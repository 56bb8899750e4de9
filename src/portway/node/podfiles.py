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
    if (resolv := _resolv(pod, cluster_dns, cluster_domain)) is not None:
        files["/etc/resolv.conf"] = resolv
    return files


def _resolv(pod: Pod, cluster_dns: str, domain: str) -> str | None:
    """dnsPolicy, then dnsConfig added to it; None where the machine's own file is to be kept."""
    policy = pod.spec.dns_policy or "ClusterFirst"
    servers, search, options = [], [], {}
    if policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not pod.spec.host_network):
        servers, search, options = (
            [cluster_dns],
            [f"{pod.namespace}.svc.{domain}", f"svc.{domain}", domain],
            {"ndots": "5"},
        )
    elif policy != "None":
        return None
    config = pod.spec.dns_config or {}
    servers += map(str, config.get("nameservers") or ())
    search += map(str, config.get("searches") or ())
    options |= {str(o.get("name", "")): str(o.get("value") or "") for o in config.get("options") or ()}
    lines = [f"search {' '.join(dict.fromkeys(search))}"] if search else []
    lines += [f"nameserver {server}" for server in dict.fromkeys(servers)]
    if options:
        lines.append("options " + " ".join(f"{name}:{value}" if value else name for name, value in options.items()))
    return "".join(f"{line}\n" for line in lines)


def _hosts(pod: Pod, pod_ip: str, node: str, domain: str) -> str:
    own = hostname(pod, node)
    full = f"{own}.{pod.spec.subdomain}.{pod.namespace}.svc.{domain} " if pod.spec.subdomain else ""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", f"{pod_ip}\t{full}{own}"]
    for alias in pod.spec.host_aliases or ():
        lines.append("\t".join((str(alias.get("ip", "")), *map(str, alias.get("hostnames") or ()))))
    return "\n".join(lines) + "\n"
