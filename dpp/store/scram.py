"""A password as PostgreSQL keeps it, made here: it stands in no statement and no server's log."""

import hashlib
import hmac
from base64 import b64encode

ITERATIONS = 4096  # PostgreSQL's own; passwords of machines are long, and each login pays for it
SALT_BYTES = 16


def is_plain(password: str) -> bool:
    """Say whether a password is the same to every driver: they prepare other characters alike."""
    return password.isascii() and password.isprintable()


def verifier(password: str, salt: bytes) -> str:
    """Return the SCRAM-SHA-256 verifier of a plain password (RFC 5803, as PostgreSQL writes it)."""
    assert is_plain(password)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    keys = f"{b64encode(stored_key).decode()}:{b64encode(server_key).decode()}"
    return f"SCRAM-SHA-256${ITERATIONS}:{b64encode(salt).decode()}${keys}"
