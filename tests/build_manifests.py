"""Manifests for lab tests, as plain objects: a web Deployment with the probes and hooks that a test asks for, a Service."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def echo_deployment(
    name: str, *, replicas: int = 2, version: str = "1", pre_stop_seconds: int = 0, grace: int = 10
) -> Object:
    """Pods of `portway/echo` with a readiness probe each second; the template changes with `version`."""
    container: Object = {
        "name": "echo",
        "image": "portway/echo",
        "env": [{"name": "VERSION", "value": version}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1},
    }
    if pre_stop_seconds:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": pre_stop_seconds}}}
    return deployment(name, container, replicas=replicas, grace=grace)


def gated_deployment(name: str, *, replicas: int = 2) -> Object:
    """Web pods whose readiness is a file, so that a test can take it away: /ready."""
    command = 'touch /ready; echo "<p>Hello from $(hostname)</p>" > index.html; exec python3 -m http.server 8080'
    container: Object = {
        "name": "web",
        "image": "python:3.11",
        "command": ["/bin/bash", "-c", command],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"exec": {"command": ["test", "-f", "/ready"]}, "periodSeconds": 1, "failureThreshold": 1},
    }
    return deployment(name, container, replicas=replicas)


def deployment(name: str, container: Object, *, replicas: int, grace: int = 10) -> Object:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": grace, "containers": [container]},
            },
        },
    }


def service(name: str, app: str = "", **spec: Any) -> Object:
    """A Service on port 80 for the pods with the label app=`app` (by default its own name)."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": app or name}, "ports": [{"port": 80, "targetPort": "http"}], **spec},
    }
