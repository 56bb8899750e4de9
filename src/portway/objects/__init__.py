"""Kubernetes objects as frozen structs, and the declarations of the kinds that we know.

`kinds` lists every kind (group, version, names, subresources): the API server serves what stands there. `meta`, `core`,
`apps` and `discovery` decode what the agents and controllers read; a field that nobody reads is not there and is skipped
by the decoder. `schema` reads the compact OpenAPI table (`schema.bin`, made by hatch_build.py) for the API server.
"""
