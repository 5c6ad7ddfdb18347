"""The short way to the routes that are asked all the time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import ForetellError, respond

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """What metrics read off the scope of a request that was routed."""

    path: str


class DirectMiddleware:
    """Calls an endpoint without the framework in between: no matching of paths, no resolving of dependencies.

    That costs a request about as much as everything else that happens on the event loop (docs/decisions/0012). The same
    endpoints stand as routes of FastAPI, which documents them and answers other methods.

    Args:
        endpoints: by method and path; each does all that its route does, its key included.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[tuple[str, str], Endpoint]) -> None:
        self.app = app
        self.endpoints = {key: (endpoint, Route(key[1])) for key, endpoint in endpoints.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; what has no endpoint here passes through."""
        found = self.endpoints.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if found is None:
            await self.app(scope, receive, send)
            return
        endpoint, scope["route"] = found
        try:
            response = await endpoint(Request(scope, receive))
        except ForetellError as error:
            response = respond(error)
        await response(scope, receive, send)
