"""Pods as processes: the agent of one node. It watches the pods bound to its node and makes them run, without images
or root.

`agent` registers the node and keeps one `pod` worker per pod. A worker asks the pure modules what to do (`lifecycle`,
`probes`, `status`, `environment`, `images`) and does it through `wiring` (the pod's network), `volumes` and
`runtime`, which speaks to the `sandbox` process. `logs` and `streams` are what `kubectl logs` and `exec` reach.
Nothing here imports `proxy` or `controllers`: they meet in API objects. This file imports nothing, because the
sandbox process loads it and must start fast.
"""
