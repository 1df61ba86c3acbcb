"""What `dpp doctor` looks at, found on the machine, in the database and in the configuration.

Each module finds the facts of one subject for `dpp.diagnosis`, which judges them; `examination`
puts all together, and `launch` adds what a launch asks of the running node. Nothing is changed.
"""
