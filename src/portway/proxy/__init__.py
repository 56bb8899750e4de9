"""The service proxy of one node: Services and EndpointSlices become one nftables table.

`intent` says what is wanted in network words, `compile` says it in nftables (`layout` is the part that never moves),
`reasons` names every "no", `config` holds what differs between clusters and nodes; all of these are pure. `apply` is
the agent: it follows the objects and gives the kernel the difference.
"""
