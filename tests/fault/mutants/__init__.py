"""Seeded bugs: each is one change of the code, and names the tests that must catch it."""
