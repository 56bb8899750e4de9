"""Portway: the road from the outside of a Kubernetes cluster to a pod.

Start with `docs/architecture.md`; the folders are the packet's path. `portway.cli` is where a user comes in,
`portway.lab` builds the one-machine cluster, `portway.proxy` turns Services into netfilter tables.
"""

__version__ = "0.1.0"
