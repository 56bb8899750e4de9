"""The cluster's names: Services, headless endpoints and pods become answers of a DNS server that every node runs.

`intent` says which records the objects ask for (Kubernetes DNS specification 1.1.0), `compile` keeps them as answers that
are encoded already, `answer` makes a reply of a query; with `wire`, `records`, `config` and `reasons` these are pure.
`server` (UDP and TCP) and `upstream` are the sockets, `apply` is the agent that follows the objects, and `announce` writes
the endpoints of the Service `kube-dns`.
"""
