"""What a run sees, in windows on the screen: where the user's own OpenCV has them; the pinned headless one has not."""

import subprocess
import sys
import threading

from runtime.backend import ClosedOnExit
from runtime.bars import say
from runtime.errors import LibraryError
from runtime.media.view import Drawn, View

LOOK_S, PROBE_S = 0.03, 20
# In a process of its own: without a screen some of OpenCV's libraries abort.
PROBE = "import cv2; cv2.namedWindow('x'); cv2.waitKey(1); cv2.destroyAllWindows()"


class Windows(ClosedOnExit):
    """A window for each source, drawn by one thread: OpenCV's are for one thread alone. Ends with the run."""

    def __init__(self) -> None:
        """Look whether there can be windows.

        Raises:
            LibraryError: there cannot.
        """
        refuse_without_windows()
        self.views: list[View] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="windows", daemon=True)
        self._thread.start()

    def view(self, name: str, drawn: Drawn) -> View:
        """A window for one more source, which is called so."""
        self.views.append(View(name, drawn))
        return self.views[-1]

    def close(self) -> None:
        """Close all windows."""
        self._closed.set()
        self._thread.join(1)

    def _draw(self) -> None:
        import cv2

        try:
            self._draw_until_closed()
        except cv2.error as error:  # the screen is gone; the run goes on
            say(f"the windows are closed: {error.err or error}")

    def _draw_until_closed(self) -> None:
        import cv2

        seen: dict[int, int] = {}
        while not self._closed.wait(LOOK_S):
            for i, view in enumerate(list(self.views)):
                if found := view.drawn(seen.get(i, 0), 0):
                    seen[i] = found[0]
                    cv2.imshow(view.name, found[1][..., ::-1].copy())
            if seen:
                cv2.waitKey(1)
        if seen:
            cv2.destroyAllWindows()


def refuse_without_windows() -> None:
    """Open and close a window in another process.

    Raises:
        LibraryError: that fails.
    """
    try:
        done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=PROBE_S).returncode == 0
    except subprocess.TimeoutExpired:
        done = False
    if not done:
        raise LibraryError(
            "there is no window here: this OpenCV is built without windows (opencv-python-headless), or there is no "
            "screen; --show gives a page for the browser"
        )
