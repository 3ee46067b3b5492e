"""What a server takes at most; each bound is an option of the command."""

from typing import NamedTuple

MIB = 1 << 20


class Limits(NamedTuple):
    """Bounds of one server. Seconds are those of the clock on the wall."""

    body_bytes: int = 32 * MIB  # of one request
    upload_s: float = 30.0  # from a request's headers to the last byte of its body
    uploads: int = 64  # bodies that come in at once
    queue: int = 16  # requests that wait, beside those in a lane
    wait_s: float | None = None  # for a lane; later it is not worked for. 0: as long as it takes; None: see `Recent`
    connections: int = 512  # open ones
    header_s: float = 10.0  # until a connection has sent its first request's headers
    idle_s: float = 15.0  # between two requests of a connection
    send_s: float = 60.0  # that a client may leave an answer in the network
    stall_s: float = 60.0  # of one frame in a lane: longer, and the server is not ready
    grace_s: float = 30.0  # after SIGTERM, for what was accepted
