"""The container's health check: exit 0 when /health/ready answers 200, else 1 with the reason on stderr.

Only the standard library, so that the image needs no curl and the check starts in milliseconds. http.client and not
urllib, which would send the question to a proxy where HTTP_PROXY is set.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys

SECONDS = 4.0


def ready(port: int, *, https: bool) -> str | None:
    """Ask the service on this machine's ``port``; None when it is ready, else what is wrong.

    Its certificate is for its name in the world, not for 127.0.0.1, so nobody looks at it here.
    """
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=SECONDS, context=ssl._create_unverified_context())
        if https
        else http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    )
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        body = answer.read(500).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"no answer on port {port}: {error!r}"
    finally:
        connection.close()
    return None if answer.status == 200 else f"{answer.status} {answer.reason}: {body}"


if __name__ == "__main__":
    port = os.environ.get("FORETELL_OPS_PORT") or os.environ.get("FORETELL_PORT", "8000")
    problem = ready(int(port), https="FORETELL_TLS_CERT" in os.environ)
    if problem:
        sys.exit(f"not ready: {problem}")
