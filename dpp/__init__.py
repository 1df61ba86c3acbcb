"""DPP sells runs: money is reserved, a pack executes, the actual cost is settled exactly once.

`cli` is the command, `node` wires a process, `http`, `actors` and `store` do, the modules beside
them decide and know no trio, clock or driver, and `packs` are what a run executes. Imports point
down only: cli, node, then http, actors and store (which never see each other), packs, ports, core.
"""
