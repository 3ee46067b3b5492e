"""The options of `runtime.serve`."""

import argparse
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from runtime import cli
from runtime.arguments import Parser
from runtime.fit import add_fit
from runtime.infer_options import port_from_text
from runtime.media.frames import add_max_pixels
from runtime.serve.engines import named_from_text
from runtime.serve.limits import MIB, Limits
from runtime.signature import add_require_signed

DESCRIPTION = "`python -m runtime.serve`: masks over HTTP, on this machine's own address unless another is asked for."
HOST, PORT = "127.0.0.1", 8000
HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
AUTO = "auto"  # of --wait-seconds
MOST_BODY_MIB, MOST_SECONDS, MOST_REQUESTS = 4096, 86400, 65536


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The options of one server."""
    parser = Parser(prog="python -m runtime.serve", description=DESCRIPTION)
    add = parser.add_argument
    add("--engine", type=named_from_text, action="append", metavar="[NAME=]FILE", help="served under its name, by "
        "default the file's; several times for several (default: this machine's newest)")  # fmt: skip
    add("--host", type=_address, default=HOST, help="address to listen on; 0.0.0.0 is all of this machine's "
        "(default: %(default)s)")  # fmt: skip
    add("--allow-host", type=_host_name, action="append", default=[], metavar="NAME", help="another name that it is "
        "called by on 127.0.0.1, as a proxy of this machine hands it on; several times for several")  # fmt: skip
    add("--port", type=_port, default=PORT, help="0: any that is free, which is printed (default: %(default)s)")
    add("--lanes", type=cli.lanes_from_text, metavar="N", help="frames in an engine at once; one alone has all cores "
        "in any case (default: what the engine does best under load)")  # fmt: skip
    cli.add_threads(parser)
    add_fit(parser)
    add_max_pixels(parser)
    add_require_signed(parser)
    add("--token-file", type=Path, metavar="FILE", help="only requests with this bearer token are answered")
    add("--admin-token-file", type=Path, metavar="FILE", help="POST /engine is taken with this bearer token")
    _add_limits(parser)
    return parser.parse_args(argv)


def limits_of(options: argparse.Namespace) -> Limits:
    """The bounds that the options set."""
    return Limits(
        body_bytes=options.max_body * MIB, upload_s=options.upload_seconds, uploads=options.uploads,
        queue=options.queue, wait_s=options.wait_seconds, connections=options.connections, send_s=options.send_seconds,
        stall_s=options.stall_seconds, grace_s=options.grace_seconds,
    )  # fmt: skip


def _add_limits(parser: argparse.ArgumentParser) -> None:
    own = Limits()
    for name, kind, default, what in (
        ("queue", _whole(0, MOST_REQUESTS), own.queue, "requests that wait beside those in a lane; more are a 503"),
        ("max-body", _whole(1, MOST_BODY_MIB), own.body_bytes // MIB, "MiB of a request; more is a 413"),
        ("upload-seconds", _whole(1, MOST_SECONDS), round(own.upload_s), "for a body to arrive; longer is a 408"),
        ("uploads", _whole(1, MOST_REQUESTS), own.uploads, "bodies that arrive at once; more are a 503"),
        ("connections", _whole(1, MOST_REQUESTS), own.connections, "that are open; more are a 503"),
        ("send-seconds", _whole(1, MOST_SECONDS), round(own.send_s), "for a client to take some of its answer"),
        ("stall-seconds", _whole(1, MOST_SECONDS), round(own.stall_s), "of one frame; longer, and it is not ready"),
        (
            "grace-seconds",
            _whole(1, MOST_SECONDS),
            round(own.grace_s),
            "after SIGTERM, for what was accepted; then it ends",
        ),
    ):
        parser.add_argument(f"--{name}", type=kind, default=default, metavar="N", help=f"{what} (default: {default})")
    parser.add_argument("--wait-seconds", type=_wait_from_text, metavar="N", help="for a lane; who waited longer is a "
        "503 and not worked for; 0: none is; auto: where more come than there are places for, as long as leaves time "
        "to answer within (queue + lanes) / lanes times what one takes (default: auto)")  # fmt: skip


def _whole(least: int, most: int) -> Callable[[str], int]:
    def value(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text[:50]!r} is not a whole number, {least} to {most}")
        return int(text)

    return value


def _wait_from_text(text: str) -> float | None:
    if text == AUTO:
        return None
    with suppress(argparse.ArgumentTypeError):
        if 0 <= (seconds := cli.number_from_text(text)) <= MOST_SECONDS:
            return seconds
    raise argparse.ArgumentTypeError(f"{text[:50]!r} is not a number of seconds, 0 to {MOST_SECONDS}, or {AUTO}")


def _address(text: str) -> str:
    # Numbers that are no whole address ("", "0", "127.1") the system reads in ways of its own: as all addresses, say.
    with suppress(ValueError):
        ip_address(text)
        return text
    if not HOST_NAME.fullmatch(text) or NUMBER.fullmatch(text.rpartition(".")[2]):
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is no address to listen on, such as {HOST}, 0.0.0.0 or ::1")
    return text


def _host_name(text: str) -> str:
    if not HOST_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is not the name of a host, such as street.example.org")
    return text


def _port(text: str) -> int:
    return 0 if text == "0" else port_from_text(text)
