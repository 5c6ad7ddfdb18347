"""What is read at a glance is what a parser of HTTP reads; whatever it would read otherwise is left to it."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foretell.glance import glance

MOST = 64 * 1024
BODY = b'{"user_id":"u1"}'
ORDINARY = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 16\r\n"
    b"Accept-Encoding: gzip, deflate\r\nX-Request-ID:\r\nConnection: Keep-Alive\r\n\r\n" + BODY
)


class Parsed:
    """What the parser says of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.url = self.body = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.ends = 0
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.line = self._parser.get_method(), self.url, self._parser.get_http_version()
        self.kept = self._parser.should_keep_alive() and not self._parser.should_upgrade()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ends += 1


def agreed(data: bytes) -> bool:
    """Whether bytes were read at a glance; then as the parser reads them."""
    if (seen := glance(data, MOST)) is None:
        return False
    parsed = Parsed(data)
    assert (parsed.line, parsed.kept, parsed.ends) == ((b"POST", b"/predict", "1.1"), True, 1)
    assert seen == (parsed.headers, parsed.body)
    return True


def test_an_ordinary_prediction_is_read() -> None:
    assert agreed(ORDINARY)
    headers, body = glance(ORDINARY, MOST) or ([], b"")
    assert (headers[0], headers[-2:], body) == (
        (b"host", b"x"),
        [(b"x-request-id", b""), (b"connection", b"Keep-Alive")],
        BODY,
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"POST", b"GET"),
        (b"/predict", b"/predict?k=3"),
        (b"/predict", b"/predict/batch"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"Keep-Alive", b"close"),
        (b"Keep-Alive", b"Upgrade\r\nUpgrade: websocket"),
        (b"Host: x", b"Expect: 100-continue"),
        (b"Host: x", b"Proxy-Connection: close"),
        (b"Host: x", b"Transfer-Encoding: chunked"),
        (b"Host: x", b"Content-Length: 16"),
        (b"Host: x", b"Content-Length : 16"),
        (b"Host: x", b"Host: a\r\nHost: b"),
        (b"Host: x", b"Host: a\r\n b"),
        (b"Host: x", b"Host: a\nb: c"),
        (b"Host: x", b"Host: a\x00"),
        (b"Content-Length: 16", b"Content-Length: 15"),
        (b"Content-Length: 16", b"Content-Length: 17"),
        (b"Content-Length: 16", b"Content-Length: +16"),
        (b"Content-Length: 16", b"Content-Length: 1_6"),
        (b"Content-Length: 16", b"X: y"),
        (BODY, BODY + ORDINARY),
        (BODY, b""),
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_the_parser(old: bytes, new: bytes) -> None:
    assert glance(ORDINARY.replace(old, new, 1), MOST) is None


def test_a_head_that_is_too_long_is_left_to_the_parser() -> None:
    head = len(ORDINARY) - len(BODY)
    assert glance(ORDINARY, head) is not None
    assert glance(ORDINARY, head - 1) is None


@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    b"Host",
                    b"X-A",
                    b"content-length",
                    b"Content-Length",
                    b"Expect",
                    b"Connection",
                    b"Proxy-Connection",
                    b"X:",
                    b"",
                ]
            )
            | st.binary(max_size=3),
            st.sampled_from([b":", b": ", b":  ", b":\t", b" : ", b""]),
            st.sampled_from([b"16", b"016", b"x y", b"keep-alive", b"close", b" ", b"16, 16"]) | st.binary(max_size=4),
            st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\n ", b" \r\n"]),
        ),
        max_size=5,
    )
)
@example(lines=[(b"Content-Length", b": ", b"16", b"\r\n"), (b"X-A", b":", b"\xe9 y", b"\r\n")])
def test_whatever_is_read_at_a_glance_is_what_the_parser_reads(lines: list[tuple[bytes, bytes, bytes, bytes]]) -> None:
    agreed(b"POST /predict HTTP/1.1\r\n" + b"".join(map(b"".join, lines)) + b"\r\n" + BODY)
    agreed(b"POST /predict HTTP/1.1\r\nContent-Length: 16\r\n" + b"".join(map(b"".join, lines)) + b"\r\n" + BODY)


@given(place=st.integers(0, len(ORDINARY)), cut=st.integers(0, 3), put=st.binary(max_size=3))
def test_a_damaged_request_is_read_as_the_parser_reads_it(place: int, cut: int, put: bytes) -> None:
    agreed(ORDINARY[:place] + put + ORDINARY[place + cut :])
