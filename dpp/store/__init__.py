"""The store: PostgreSQL, embedded or not, and all that speaks to it."""
