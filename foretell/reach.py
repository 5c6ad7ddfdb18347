"""Who may reach the service, and how: without keys only this machine; with a certificate by HTTPS."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from app.settings import Settings

log = structlog.get_logger(__name__)


class CertificateError(Exception):
    """HTTPS cannot be served. The message is one sentence: what is wrong, and what to do."""


def reachable(settings: Settings) -> Settings:
    """The settings, with the loopback address in place of any other where nothing says who may come; the log says so.

    FORETELL_INSECURE lets everybody in, for containers whose network asks who comes.
    """
    if settings.keys is not None or is_loopback(settings.host):
        return settings
    if settings.insecure:
        log.warning(f"No keys: whoever reaches {settings.host} may do everything (FORETELL_INSECURE).")
        return settings
    host = "::1" if ":" in settings.host else "127.0.0.1"
    log.warning(
        f"No keys, so Foretell listens on {host} and not on {settings.host}; set FORETELL_KEYS (`foretell keys new`), "
        "or FORETELL_INSECURE=true where the network keeps strangers out."
    )
    return settings.model_copy(update={"host": host})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there. A name other than ``localhost`` may be anything."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_certificate(settings: Settings) -> None:
    """See that certificate and key can be read and belong together, before uvicorn tells it by a traceback.

    Raises CertificateError.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:  # ssl.SSLError is one
        raise CertificateError(
            f"HTTPS cannot be served with {settings.tls_cert} and {settings.tls_key} ({error.strerror or error}); "
            "check FORETELL_TLS_CERT and FORETELL_TLS_KEY."
        ) from error
