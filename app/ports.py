"""A port of its own for operations, as pure ASGI middleware."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import NotFound, respond

#: Set where the request came on the port of operations.
OPS = "foretell.ops"
#: What the port of operations serves, and then no other port.
OPERATIONS = ("/metrics", "/health/")


class PortMiddleware:
    """Serves what is for operations on one port, and everything else on the others; elsewhere they are not found."""

    def __init__(self, app: ASGIApp, ops_port: int) -> None:
        self.app = app
        self.ops_port = ops_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other scopes pass through. The port is that of our socket, not what a client says."""
        if scope["type"] == "http":
            scope[OPS] = (scope.get("server") or ("", None))[1] == self.ops_port
            if scope[OPS] != scope["path"].startswith(OPERATIONS):
                await respond(NotFound("There is nothing at this path on this port."))(scope, receive, send)
                return
        await self.app(scope, receive, send)
