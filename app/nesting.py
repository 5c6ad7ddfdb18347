"""How deep JSON is nested, before anybody parses it."""

from __future__ import annotations

import numpy as np

_QUOTE = ord('"')
#: By byte: what it adds to the depth.
_STEPS = np.zeros(256, np.int8)
_STEPS[[*b"[{"]] = 1
_STEPS[[*b"]}"]] = -1


def deeper_than(body: bytes, limit: int) -> bool:
    """Whether arrays and objects lie more than ``limit`` deep in each other. Bytes that are no JSON get an answer too.

    Most bodies have fewer brackets than that in all, which is found out at the speed of memchr.
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # in this order: a quote after two is a quote
    text = np.frombuffer(unescaped, np.uint8)
    outside = np.cumsum(text == _QUOTE, dtype=np.int32) & 1 == 0  # of strings: an even number of quotes so far
    return bool(np.cumsum(_STEPS[text] * outside, dtype=np.int32).max(initial=0) > limit)
