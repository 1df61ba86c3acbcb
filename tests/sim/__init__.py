"""Several nodes in one process on a clock that jumps: seeded faults, one judge, the same trace."""
