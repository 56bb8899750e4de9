"""Network namespaces as plans: which links, addresses, routes and kernel settings one namespace shall have.

`plan` is pure: what is wanted, what is there, and the difference. `kernel` is the edge: it reads a namespace and makes it
so over rtnetlink. The lab builds its hosts with it and a node agent its pods; no word of Kubernetes is known here.
"""
