"""The command `dpp`: one module a noun, each of a few commands and no logic of its own.

`main` is the entry; `command` gives every command the options that all have; `session` is what was
said on the command line; `reach` finds the node; `output` prints; `troubles` turns what went wrong
into words and an exit status. What is slow to import is imported where it is used, so that
`dpp version` and `dpp --help` are there at once.
"""
