"""Faults on real processes: what dies, hangs or is cut, and both judges of the books after it."""
