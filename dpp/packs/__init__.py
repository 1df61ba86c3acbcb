"""What a run executes.

`pack` is the form of a pack, `registry` finds the packs of a node, `inputs` reads a submission's
inputs strictly, `ctx` is what a pack is given (charge, progress, deadline, cancel), `events` is
its outbox, `results` turns a result into bytes. `echo` and `decision` are the packs that come with
DPP. A pack knows no store and no HTTP; docs/packs.md is the guide for writing one.
"""
