"""What stands in front of the nodes: which address a LoadBalancer Service has, and which node answers for it.

`pools` and `assign` decide on addresses, `intent` says what the provider's balancer should do, `health` what a node's
check results mean, `slots` which node a connection falls to, `layout` and `compile` say it in nftables, `reasons` names
every "no"; all of these are pure. `run` is the controller that writes addresses and conditions. The data plane that
carries out what `compile` made belongs to a provider (the lab's is `lab.edge`) and is seen through `provider.Announcer`.
"""
