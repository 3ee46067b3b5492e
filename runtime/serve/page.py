"""The page of the server: one file, which loads nothing from elsewhere and may not."""

import base64
import hashlib
import re
from pathlib import Path

from runtime.serve.replies import Reply

PAGE = Path(__file__).with_name("page.html")


def page_reply() -> Reply:
    """The page, with a policy under which no other script or style than its own is run, and no other host is asked."""
    text = PAGE.read_text("utf-8")
    return Reply(200, text.encode(), "text/html; charset=utf-8", _guards(text))


def _guards(text: str) -> dict[str, str]:
    # Source: W3C Content Security Policy 3, 8.4: hashes of what stands between the tags.
    script, style = (_hash(text, tag) for tag in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {"Content-Security-Policy": policy, "Permissions-Policy": "camera=(self), microphone=(), geolocation=()"}


def _hash(text: str, tag: str) -> str:
    (inner,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()}'"
