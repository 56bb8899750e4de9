"""The one-machine cluster: hosts are network namespaces, pods are processes, the road between them is the kernel's.

`topology` says which hosts there are and how they are wired (pure), `hosts` makes them so; `pki` makes the certificates,
`state` keeps the folder; `supervisor` is the detached process that runs the API server, controllers and agents, and
`control` is how the command line talks to it.
"""
