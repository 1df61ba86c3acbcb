"""What is wrong with an installation: facts in, a verdict on each out, with its remedy.

`checks` says what a verdict is; each other module knows one subject. Nothing here looks at anything
itself: `dpp.doctor` and `dpp.store` find the facts, and say so where they could not.
"""
