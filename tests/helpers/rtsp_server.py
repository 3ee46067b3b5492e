"""A camera on the network: GStreamer's RTSP server on 127.0.0.1, with a picture that moves, in H.264.

For the Python that has GStreamer's bindings (Debian: the packages of `NEEDS`), which is not the tests' own:
`/usr/bin/python3 tests/helpers/rtsp_server.py PORT HEIGHT WIDTH FPS [USER PASSWORD]`. Ends with its standard input.
"""

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

NEEDS = (
    "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-ugly"
)
SYSTEM_PYTHON = "/usr/bin/python3"
HEIGHT, WIDTH, FPS = 96, 128, 25
PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width={width},height={height},framerate={fps}/1 ! x264enc "
    "tune=zerolatency speed-preset=ultrafast key-int-max={fps} ! rtph264pay name=pay0 config-interval=1 )"
)


class Server:
    """The server as a process, which can be ended, frozen and started again on the same port."""

    def __init__(self, *credentials: str, shape: tuple[int, int, int] = (HEIGHT, WIDTH, FPS)) -> None:
        self.port = free_port()
        self._shape = [str(value) for value in shape]
        self._credentials = credentials
        self._process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def address(self) -> str:
        at = ":".join(self._credentials) + "@" if self._credentials else ""
        return f"rtsp://{at}127.0.0.1:{self.port}/live"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        command = [SYSTEM_PYTHON, __file__, str(self.port), *self._shape, *self._credentials]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        assert said == "ready\n", f"the RTSP server did not start; it needs: apt-get install {NEEDS}"

    def cut(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def serving(*credentials: str, shape: tuple[int, int, int] = (HEIGHT, WIDTH, FPS)) -> Iterator[Server]:
    server = Server(*credentials, shape=shape)
    try:
        yield server
    finally:
        server.cut()


def serve(port: int, height: int, width: int, fps: int, credentials: list[str]) -> None:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=str(port))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE.format(height=height, width=width, fps=fps))
    factory.set_shared(True)
    if credentials:
        require(GstRtspServer, server, factory, *credentials)
    server.get_mount_points().add_factory("/live", factory)
    assert server.attach(None)
    loop = GLib.MainLoop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    print("ready", flush=True)
    loop.run()


def require(library, server, factory, user: str, password: str) -> None:
    token = library.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = library.RTSPAuth()
    auth.add_basic(library.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = library.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:5]), sys.argv[5:])
