"""The process that serves: a socket, uvicorn's event loop, and what signals do. The one file that knows uvicorn."""

import asyncio
import importlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple, NoReturn

from runtime.cli import DONE, INTERRUPTED
from runtime.errors import PipelineError
from runtime.serve.connections import Connection
from runtime.serve.limits import Limits
from runtime.serve.metrics import Metrics
from runtime.serve.service import Service
from runtime.serve.swap import Swapper
from runtime.serve.uploads import Uploads

BACKLOG = 256
STOPS = (signal.SIGTERM, signal.SIGINT)
SIGNALLED = 128  # and its number: what a shell makes of a process that a signal ended
CLOSING_S = 1.0  # to send the last answers and to free the engines, when the time for what was accepted is over


class AddressError(PipelineError):
    """An address that cannot be listened on."""


class Parts(NamedTuple):
    """What is served: the ASGI application, and who does its work."""

    application: Any
    service: Service
    swapper: Swapper
    uploads: Uploads
    metrics: Metrics


def listening(host: str, port: int, limits: Limits) -> socket.socket:
    """A socket that listens; port 0: any that is free.

    Raises:
        AddressError: it cannot; another program may have the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol's number: asyncio turns Nagle's algorithm off for sockets that say they are TCP, and connections
    # say what their listener says. Without it every answer but a connection's first waits 40 ms for its client.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(BACKLOG)
    except (OSError, UnicodeError, OverflowError) as error:
        made.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise AddressError(f"cannot listen on {host}:{port} ({reason}): give another --port or --host") from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Connections inherit it: one whose client takes nothing ends, and gives back what was to be sent.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(limits.send_s * 1000))
    return made


def address_of(listener: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(parts: Parts, listener: socket.socket) -> int:
    """Serve until SIGTERM or Ctrl-C; what was accepted by then is answered. SIGHUP looks for new engines.

    A second signal ends the process at once, as does a frame that hangs when the time for what was accepted is over.

    Returns:
        the exit code: 0 after SIGTERM, 130 after Ctrl-C.
    """
    return asyncio.run(_serve(parts, listener))


async def _serve(parts: Parts, listener: socket.socket) -> int:
    server = _server(parts)
    ended: list[int] = []

    def stop(number: int) -> None:
        parts.service.admission.closed = True
        parts.uploads.stop()
        server.should_exit = True
        ended.append(number)
        for again in STOPS:
            # Not as the system does it by default: a container's first process is left alone by that.
            signal.signal(again, lambda number, _: _end(SIGNALLED + number))

    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.ensure_future(parts.swapper.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    _on_signals(stop, reload)
    await server.serve(sockets=[listener])
    code = INTERRUPTED if ended[:1] == [signal.SIGINT] else DONE
    closing = asyncio.get_running_loop().run_in_executor(None, _close, parts)
    await asyncio.wait({closing, *server.server_state.tasks}, timeout=CLOSING_S)
    if not closing.done():
        _end(code)  # a frame hangs: what ends in good order waits for its thread
    await closing
    return code


def _on_signals(stop: Callable[[int], None], reload: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in STOPS:
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGHUP, reload)


def _end(code: int) -> NoReturn:
    os._exit(code)


def _close(parts: Parts) -> None:
    parts.swapper.close()
    parts.service.close()


def _server(parts: Parts) -> Any:
    uvicorn = importlib.import_module("uvicorn")
    h11 = importlib.import_module("uvicorn.protocols.http.h11_impl")
    limits = parts.uploads.limits

    def connection(**given: Any) -> Connection:
        return Connection(h11.H11Protocol(**given), limits, parts.metrics.count_early)

    # Garbage from the network is a 400 to who sent it, and no line in the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        parts.application, http=connection, loop="asyncio", ws="none", lifespan="off", log_config=None,
        access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=round(limits.idle_s),
        timeout_graceful_shutdown=max(1, round(limits.grace_s)),
    )  # fmt: skip
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # its own would end the process by the signal, not with 0
    return server
