"""What a run sees, in a browser of this machine: overlays as MJPEG over HTTP, on 127.0.0.1 alone."""

import html
import re
import select
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from runtime.backend import ClosedOnExit
from runtime.errors import OutputError
from runtime.media.view import Drawn, View

HOST = "127.0.0.1"
HOSTS = re.compile(r"(?:127\.0\.0\.1|localhost)(?::\d+)?", re.IGNORECASE)
MOST_CLIENTS = 8  # connections; a picture on a page is one
MOST_FPS = 10
TIMEOUT_S = 10.0  # of a client that does not take what it is sent
LOOK_S = 0.2
BOUNDARY = "frame"
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>street-segmentation</title>
<style>body{{margin:0;background:#111;color:#ddd;font:14px sans-serif}}figure{{margin:8px;display:inline-block}}
img{{max-width:100%}}</style>{figures}</html>
"""
FIGURE = '<figure><img src="/{number}.mjpeg" alt=""><figcaption>{name}</figcaption></figure>'
# No other page may show these pictures or look into them.
GUARDS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Preview(ClosedOnExit):
    """A page with all views, and each as MJPEG; whoever asks from outside, or as another host, gets nothing."""

    def __init__(self, port: int = 0) -> None:
        """Begin to listen.

        Args:
            port: 0: any that is free.

        Raises:
            OutputError: another program has it.
        """
        self.views: list[View] = []
        self.closed = threading.Event()
        try:
            self._server = _Server((HOST, port), self)
        except OSError as error:
            raise OutputError(
                f"the preview cannot listen on {HOST}:{port} ({error.strerror}): give another --show-port, or none"
            ) from None
        self.address = f"http://{HOST}:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(LOOK_S,), name="preview", daemon=True)
        self._thread.start()

    def view(self, name: str, drawn: Drawn) -> View:
        """A view for one more source, which is called so."""
        self.views.append(View(name, drawn))
        return self.views[-1]

    def close(self) -> None:
        """Let go of all clients and of the port; a second call does nothing."""
        if not self.closed.is_set():
            self.closed.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(1)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], preview: Preview) -> None:
        self.preview = preview
        self._places = threading.BoundedSemaphore(MOST_CLIENTS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        request.setblocking(False)
        try:
            request.send(b"HTTP/1.0 503 Too many clients\r\nContent-Length: 0\r\n\r\n")
        except OSError:
            pass
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: who looks and leaves is no error of the run."""


class _Handler(BaseHTTPRequestHandler):
    timeout = TIMEOUT_S
    server: _Server
    server_version, sys_version = "preview", ""

    def do_GET(self) -> None:
        preview = self.server.preview
        asked = re.fullmatch(r"/(\d{1,4})\.(mjpeg|jpg)", self.path)
        if not HOSTS.fullmatch(self.headers.get("Host", "")):
            self.send_error(403, "this preview is for the machine that it runs on")
        elif self.path == "/":
            self._answer("text/html; charset=utf-8", _page(preview.views).encode())
        elif asked is None or int(asked[1]) >= len(preview.views):
            self.send_error(404)
        elif asked[2] == "jpg":
            self._picture(preview.views[int(asked[1])])
        else:
            self._film(preview.views[int(asked[1])], preview.closed)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def _picture(self, view: View) -> None:
        found = view.jpeg(0, TIMEOUT_S)
        if found is None:
            self.send_error(503, "there is no frame yet")
        else:
            self._answer("image/jpeg", found[1])

    def _film(self, view: View, closed: threading.Event) -> None:
        self._begin(f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        seen = 0
        while not closed.is_set() and self._is_there():
            if found := view.jpeg(seen, LOOK_S):
                seen, data = found
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(1 / MOST_FPS)

    def _is_there(self) -> bool:
        # A client says nothing more; what can be read is that it has left.
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        return not poll.poll(0)

    def _answer(self, kind: str, data: bytes) -> None:
        self._begin(kind, len(data))
        self.wfile.write(data)

    def _begin(self, kind: str, length: int | None = None) -> None:
        self.send_response(200)
        headers = GUARDS | {"Content-Type": kind} | ({} if length is None else {"Content-Length": str(length)})
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _page(views: list[View]) -> str:
    figures = (FIGURE.format(number=i, name=html.escape(view.name)) for i, view in enumerate(views))
    return PAGE.format(figures="".join(figures) or "<p>nothing is seen yet: load this page again")
