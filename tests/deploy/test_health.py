"""The container's health check, run as the container runs it: a program, an exit code, one line."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

from tests.deploy.dockerfile import ROOT


@contextmanager
def service(status: int, body: bytes, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that answers ``status`` at /health/ready and 404 elsewhere; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def check(port: int, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the health check against ``port``, with a proxy set that answers nobody."""
    environment = os.environ | {"FORETELL_PORT": str(port), "HTTP_PROXY": "http://127.0.0.1:9"} | settings
    command = [sys.executable, "-I", str(ROOT / "deploy/image/health.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_ready_service_is_healthy() -> None:
    with service(200, b"{}") as port:
        result = check(port)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_service_that_is_not_ready_is_unhealthy_and_says_why() -> None:
    with service(503, b"the model is loading") as port:
        result = check(port)
    assert result.returncode == 1
    assert result.stderr == "not ready: 503 Service Unavailable: the model is loading\n"


def test_a_port_without_a_service_is_unhealthy() -> None:
    with service(200, b"") as port:
        pass
    result = check(port)
    assert result.returncode == 1
    assert f"no answer on port {port}" in result.stderr


def test_the_port_of_operations_is_asked_where_there_is_one() -> None:
    with service(200, b"{}") as port:
        assert check(9, FORETELL_OPS_PORT=str(port)).returncode == 0


def test_a_service_with_a_certificate_is_asked_by_https(tmp_path: Path) -> None:
    """Whatever name the certificate is for."""
    issued = trustme.CA().issue_cert("shop.example")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    with service(200, b"{}", context) as port:
        result = check(port, FORETELL_TLS_CERT="cert.pem")
    assert (result.returncode, result.stderr) == (0, "")
