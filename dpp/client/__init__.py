"""The Python client of DPP: `runs.Client` for a tenant, `admin.Admin` for an operator.

Both speak through one `transport`, which retries what may be asked again and raises what `faults`
names; answers become `values`. Nothing here knows the node: it is a client like any other.
"""
