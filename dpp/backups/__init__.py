"""Copies of a data directory: base backups, the WAL and results received since, and the way back."""  # noqa: E501
