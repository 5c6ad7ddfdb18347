"""What people see: the page at ``/`` that shows the product, and the API page at ``/docs``. Neither needs a network."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

#: Our own files, then Swagger UI's; both lie in installed packages.
FILES = StaticFiles(packages=[("app", "static"), ("fastapi_offline", "static")])

#: Nothing from elsewhere, nothing inline, in nobody's frame (the page has buttons that store events).
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
#: Swagger UI writes style attributes and draws its icons from data URLs.
DOCS_POLICY = f"{POLICY}; style-src 'self' 'unsafe-inline'; img-src 'self' data:"


@router.get("/")
async def page(request: Request) -> Response:
    """The page that shows Foretell predicting."""
    return await _file(request, "page.html", POLICY)


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The API page: Swagger UI over ``/openapi.json``."""
    return await _file(request, "docs.html", DOCS_POLICY)


@router.get("/static/{name}")
async def static(request: Request, name: str) -> Response:
    """A style sheet, a script, an icon."""
    return await _file(request, name, POLICY)


async def _file(request: Request, name: str, policy: str) -> Response:
    """A file by its name, or 404; browsers may keep it, but ask each time whether it has changed."""
    response = await FILES.get_response(name, request.scope)
    response.headers.update(
        {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
    )
    return response
