"""`dpp demo`: a node of its own, a decision that is paid for, and the proof that the books are right.

`command` is the order of things, `child` the node as a child process, `question` what is decided,
`judge` what must be true of it, `showing` how it is printed.
"""
