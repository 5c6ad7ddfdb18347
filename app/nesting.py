"""How deep JSON is nested, before anybody parses it."""

from __future__ import annotations

import re

# A string as a whole, closed or not, so that its brackets do not count; or a bracket.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def deeper_than(body: bytes, limit: int) -> bool:
    """Whether arrays and objects lie more than ``limit`` deep in each other. Bytes that are no JSON get an answer too.

    Most bodies have fewer brackets than that in all, which is found out at the speed of memchr.
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    depth = 0
    for token in _TOKEN.finditer(body):
        first = token[0][:1]
        if first in b"[{":
            depth += 1
            if depth > limit:
                return True
        elif first in b"]}":
            depth -= 1
    return False
