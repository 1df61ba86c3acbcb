"""Multi-criteria decision analysis, deterministic and replayable.

`model` holds the types of inputs and result, `table` picks the options that can be compared,
`methods` scores them, `ranking` orders them, `dominance` finds options that another beats
everywhere, `flip` the smallest change of a weight that changes the winner, `proof` says what a
replay needs. `analysis` puts them in steps, `pack` runs the steps and charges. All but
`pack` are pure. docs/packs.md states the arithmetic so that somebody else can write it again.
"""
