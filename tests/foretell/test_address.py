"""The address: taken before anything slow begins, silent until the model is warm, named as a browser needs it."""

from __future__ import annotations

import socket

import pytest

from foretell.address import ListenError, base_url, bind


def test_a_bound_socket_has_a_port_and_answers_nobody_yet() -> None:
    with bind("127.0.0.1", 0) as bound, socket.socket() as client:
        assert client.connect_ex(bound.getsockname()) != 0


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            bind("127.0.0.1", port)
    assert str(caught.value) == (
        f"Foretell cannot listen on 127.0.0.1:{port} (Address already in use): stop what listens there, or choose "
        "another address with --host and --port (FORETELL_HOST, FORETELL_PORT)."
    )


def test_an_address_of_another_machine_is_one_sentence() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on 192\.0\.2\.1:0 \(.+\)"):  # reserved for documentation
        bind("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("shop.example", "http://shop.example:80"),
    ],
)
def test_the_url_is_one_that_a_browser_on_this_machine_can_open(host: str, url: str) -> None:
    assert base_url(host, 80) == url
