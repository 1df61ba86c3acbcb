"""The node: one process that takes, executes and settles runs; `life` is where it is wired."""
