"""`dpp demo`: a node of its own, a decision that is paid for, and the proof of the books.

`command` is the order of things, `child` the node as a child process, `question` what is decided,
`judge` what must be true of it, `showing` how it is printed.
"""
