"""The address: taken before anything slow begins, silent until the model is warm, named as a browser needs it."""

from __future__ import annotations

import socket


class ListenError(Exception):
    """An address cannot be listened on. The message is one sentence: what is wrong, and what to do."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        super().__init__(
            f"Foretell cannot listen on {host}:{port} ({error.strerror}): stop what listens there, or choose another "
            "address with --host and --port (FORETELL_HOST, FORETELL_PORT)."
        )


def bind(host: str, port: int) -> socket.socket:
    """A socket on the address (port 0: a free one) that does not listen yet: nobody connects before the model is warm.

    Raises:
        ListenError: another program listens there, or this machine has no such address.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last run may still be closing
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ListenError(host, port, error) from error
    return bound


def base_url(host: str, port: int, scheme: str = "http") -> str:
    """Where a browser on this machine finds a service that listens there."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    return f"{scheme}://{everywhere.get(host) or (f'[{host}]' if ':' in host else host)}:{port}"
