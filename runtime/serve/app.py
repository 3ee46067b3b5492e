"""The addresses of the server, as an ASGI application: Starlette finds the route, the rest is here."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from time import perf_counter
from typing import Any, NamedTuple

from runtime.cli import log
from runtime.errors import FrameError, PipelineError
from runtime.serve.guards import Guard
from runtime.serve.metrics import Metrics
from runtime.serve.replies import LeftError, Refusal, Reply
from runtime.serve.uploads import Receive, Upload, Uploads

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
FAULT = 500  # of ours, or of the engine's: what operators want to see
LEFT = 499  # what is counted of a client that left, as nginx does
GUARDS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Call(NamedTuple):
    """A request as handlers see it; the names of headers are in small letters."""

    headers: Mapping[str, str]
    query: str
    path: Mapping[str, str]
    body: bytes


Handler = Callable[[Call], Awaitable[Reply]]


class Route(NamedTuple):
    """An address: its path as Starlette writes it, what answers it by method, and who may ask."""

    path: str
    handlers: Mapping[str, Handler]
    open_to_all: bool = False
    admin: bool = False


class Desk(NamedTuple):
    """What all routes of a server share."""

    guard: Guard
    uploads: Uploads
    metrics: Metrics


def application(routes: list[Route], desk: Desk) -> Any:
    """The ASGI application of these routes; other addresses are a 404 of the same form."""
    from starlette.applications import Starlette
    from starlette.routing import Route as Address

    known = [Address(route.path, Endpoint(route, desk)) for route in routes]
    found = Starlette(routes=[*known, Address("/{path:path}", Endpoint(Route("other", {}), desk))])

    async def from_root(scope: Scope, receive: Receive, send: Send) -> None:
        await found({**scope, "path": _path_of(scope["path"])}, receive, send)

    return from_root


def _path_of(target: str) -> str:
    # Clients write the whole address where they were told of a proxy. Source: RFC 9112, 3.2.2.
    if target.startswith("/"):
        return target
    return "/" + target.partition("://")[2].partition("/")[2]


class Endpoint:
    """One route as an ASGI application."""

    def __init__(self, route: Route, desk: Desk) -> None:
        """Answer what comes to the route."""
        self._route, self._desk = route, desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and count it."""
        start, reason = perf_counter(), ""
        upload = Upload(receive, self._desk.uploads)
        code = FAULT
        try:
            reply = await self._reply(scope, upload)
            code = reply.status
            await _send(reply, upload, send)
        except Refusal as refusal:
            code, reason = refusal.status, refusal.reason
            if code == FAULT:
                log(f"error: {refusal}")
            await _send(refusal.reply(), upload, send)
        except LeftError:
            code, reason = LEFT, "left"
        finally:
            self._desk.metrics.count(self._route.path, code, perf_counter() - start, reason)

    async def _reply(self, scope: Scope, upload: Upload) -> Reply:
        headers = headers_of(scope["headers"])
        upload.whole = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"
        handler = self._allowed(scope["method"], headers)
        announced = headers.get("content-length")
        body = b"" if upload.whole else await upload.body(int(announced) if announced else None)
        call = Call(headers, scope["query_string"].decode("latin-1"), scope.get("path_params", {}), body)
        try:
            return await upload.unless_left(handler(call))
        except asyncio.CancelledError:
            # By uvicorn, when the time for what was accepted is over.
            raise Refusal(
                503, "stopping", "the server has stopped before this was done", {"Retry-After": "1"}
            ) from None
        except FrameError as error:
            raise Refusal(400, "frame", str(error)) from None
        except MemoryError:
            raise Refusal(503, "memory", "there is not enough memory; come again", {"Retry-After": "1"}) from None
        except Refusal:
            raise
        except PipelineError as error:
            raise Refusal(FAULT, "engine", str(error)) from error

    def _allowed(self, method: str, headers: Mapping[str, str]) -> Handler:
        route = self._route
        self._desk.guard.check(headers, open_to_all=route.open_to_all or route.admin)
        if route.admin:
            self._desk.guard.check_admin(headers)
        if not route.handlers:
            raise Refusal(404, "address", "there is nothing at this address")
        found = route.handlers.get("GET" if method == "HEAD" else method)
        if found is None:
            raise Refusal(405, "method", f"{method[:20]} is not taken here", {"Allow": ", ".join(route.handlers)})
        return found


def headers_of(lines: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers of a request; several of one name are one list. Source: RFC 9110, 5.3."""
    found: dict[str, str] = {}
    for name, value in ((name.decode("latin-1"), value.decode("latin-1")) for name, value in lines):
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


async def _send(reply: Reply, upload: Upload, send: Send) -> None:
    # With a body that is still on its way the answer goes out at once, and is whole by its length; then the rest is
    # read, and the connection closed.
    own = {"Content-Type": reply.kind, "Content-Length": str(len(reply.body)), **reply.headers}
    headers = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in own.items()]
    kept = [guard for guard in GUARDS if guard[0] not in {name for name, _ in headers}]
    closing = [] if upload.whole else [(b"connection", b"close")]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers + kept + closing})
    if upload.whole:
        await send({"type": "http.response.body", "body": reply.body})
        return
    await send({"type": "http.response.body", "body": reply.body, "more_body": True})
    await upload.drop()
    await send({"type": "http.response.body", "body": b""})
