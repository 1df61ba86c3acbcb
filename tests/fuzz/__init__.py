"""Hostile requests by the hundred thousand against a real node, and what must hold after them."""
