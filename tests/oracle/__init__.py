"""Judges: they say of a database whether the promises about money were kept.

Nothing here imports the product or reads its SQL: what is judged and what judges must not share a
mistake. `money` reads one snapshot; with a `Memory` it also sees what changed since it last looked.
"""
