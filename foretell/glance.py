"""Predictions that are asked for in the ordinary way, read at a glance: one regular expression in the place of a parser
that calls back for each header."""

from __future__ import annotations

import re

from app.door import PATH

#: A name, and a value as it is written without blanks around it.
_NAME, _VALUE = rb"[!#-'*+.^_`|~0-9A-Za-z-]+", rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?"
_HEAD = re.compile(rb"POST %b HTTP/1\.1\r\n((?:%b: ?%b\r\n)+)\r\n" % (re.escape(PATH.encode()), _NAME, _VALUE))
_FIELD = re.compile(rb"([^:]+): ?([^\r]*)\r\n")

#: Headers that say of a request that it is out of the ordinary.
PECULIAR = frozenset({b"expect", b"proxy-connection", b"trailer", b"transfer-encoding", b"upgrade"})
KEPT = b"keep-alive"


def glance(data: bytes, most: int) -> tuple[list[tuple[bytes, bytes]], bytes] | None:
    """Headers, their names in small letters, and body of a ``POST`` to PATH that all of ``data`` is, and that keeps its
    connection.

    None for whatever else it is, a request too: another method or version, one that has not ended or is followed by
    another, a header that comes twice or could be read in two ways, a head of more than ``most`` bytes. Who parses HTTP
    in earnest is asked then, and has the last word on what is none.
    """
    if (found := _HEAD.match(data)) is None or found.end() > most:
        return None
    headers = [(name.lower(), value) for name, value in _FIELD.findall(found[1])]
    fields = dict(headers)
    length = fields.get(b"content-length", b"")
    if len(fields) < len(headers) or not PECULIAR.isdisjoint(fields) or not length.isdigit() or len(length) > 9:
        return None
    if int(length) != len(data) - found.end() or fields.get(b"connection", KEPT).lower() != KEPT:
        return None
    return headers, data[found.end() :]
