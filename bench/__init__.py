"""Benchmarks: what DPP does in a second on this machine, node, PostgreSQL and client together."""
