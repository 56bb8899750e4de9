"""One immutable picture of the objects that decide about traffic, with their references resolved. Pure.

`picture` holds Services, EndpointSlices by Service, and Nodes, and makes the next picture from the last one plus what
changed; `endpoints` answers who stands behind a Service's port; `shards` is the copy-on-write mapping below both;
`origin` names the object and field that something comes from. The agents (`proxy`, and later `balancer` and `gateway`)
read pictures and never change one. `hostports` says which ports of its node a pod takes.
"""
