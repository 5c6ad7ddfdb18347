"""A connection to our protocol, and a client that speaks on it."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from app.direct import CLOSE, WHOLE
from foretell.protocol import Protocol

TYPE = (b"content-type", b"text/plain")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Sends a body back: at once where the server offers that and nobody asks for two messages; ``bye`` is the last."""
    body = (await receive())["body"]
    headers = [(b"content-length", str(len(body)).encode()), TYPE, *([CLOSE] if body == b"bye" else [])]
    if (b"x-plain", b"1") not in scope["headers"]:
        await scope["extensions"][WHOLE]["answer"](201, headers, body)
        return
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def connected(
    application: Any = echo, speaks: type[Protocol] = Protocol, keep_alive: float = 5, root_path: str = ""
) -> AsyncIterator[tuple[StreamReader, StreamWriter, uvicorn.Server]]:
    config = uvicorn.Config(application, http=speaks, ws="none", lifespan="off", log_config=None, root_path=root_path)
    server = uvicorn.Server(config)
    config.timeout_keep_alive = keep_alive  # type: ignore[assignment]
    config.load()
    server.server_state.default_headers = [(b"server", b"foretell")]
    listener = await asyncio.get_running_loop().create_server(
        lambda: speaks(config=config, server_state=server.server_state, app_state={}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    yield reader, writer, server
    writer.close()
    listener.close()


def request(body: str, *headers: str, version: str = "1.1", path: str = "/predict") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", body]).encode()


async def read(reader: StreamReader) -> tuple[bytes, bytes]:
    """Head and body of the next answer; its body is five bytes."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    return head, await asyncio.wait_for(reader.readexactly(5), 30)
