"""When a certificate ends: the one date of X.509 that an operator must know beforehand.

Python's ssl reads certificates only of who it talks to. The last date stands at a fixed place, so
four steps through DER find it; a library for all of X.509 would be the largest that DPP has.
"""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
SEQUENCE, VERSION, UTC_TIME, LONG_TIME = 0x30, 0xA0, 0x17, 0x18
# Of two digits, RFC 5280, 4.1.2.5.1: from here on they are of the century before.
CENTURY = 50


class NoCertificate(ValueError):
    """There is none in it, or not one in DER."""


def ends_of(pem: str) -> list[datetime]:
    """Return when each certificate of a chain in PEM ends. Raises `NoCertificate`."""
    ends = [end_of(ssl.PEM_cert_to_DER_cert(one)) for one in _certificates(pem)]
    if not ends:
        raise NoCertificate("there is no certificate in it")
    return ends


def end_of(der: bytes) -> datetime:
    """Return when a certificate ends: Certificate, its first part, the validity, the later time."""
    try:
        body = _parts(_inside(_inside(der)))
        tags = [one for one in body if one[0] != VERSION]
        _serial, _signature, _issuer, validity = tags[:4]
        _begin, (tag, text) = _parts(validity[1])
        return _moment(tag, text.decode("ascii"))
    except (IndexError, ValueError) as error:
        raise NoCertificate(f"it is no certificate in DER ({error})") from error


def _certificates(pem: str) -> Iterator[str]:
    for part in pem.split(BEGIN)[1:]:
        yield f"{BEGIN}{part.partition(END)[0]}{END}"


def _inside(der: bytes) -> bytes:
    """Return what is in the first element, which must be a sequence."""
    tag, content = _parts(der)[0]
    if tag != SEQUENCE:
        raise ValueError(f"tag {tag:#x}")
    return content


def _parts(der: bytes) -> list[tuple[int, bytes]]:
    """Return the elements that stand side by side: tag and content."""
    found, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:  # the next so many bytes are the length
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        found.append((tag, der[at : at + length]))
        at += length
    return found


def _moment(tag: int, text: str) -> datetime:
    if tag == UTC_TIME:
        text = ("19" if int(text[:2]) >= CENTURY else "20") + text
    elif tag != LONG_TIME:
        raise ValueError(f"tag {tag:#x}")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
