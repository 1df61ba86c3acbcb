"""Requests that this node sends to places which tenants name.

`dpp.egress` decides where they may go. Here `pinned` connects to vetted addresses and nowhere else,
`sender` sends one request under its limits. Below packs and actors, so that both may use it.
"""
