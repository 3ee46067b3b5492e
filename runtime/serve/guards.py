"""Who may ask: by the name that the server was called by, the page that calls, and a token."""

import hmac
import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from runtime.errors import PipelineError
from runtime.serve.replies import Refusal
from runtime.texts import shown

LOOPBACK = re.compile(r"(?:127\.\d+\.\d+\.\d+|localhost|\[::1\])(?::\d+)?", re.IGNORECASE)
PORT = re.compile(r":\d+$")
LEAST_TOKEN, MOST_TOKEN = 16, 4096  # characters


def is_loopback(address: str) -> bool:
    """Whether an address that a socket listens on is this machine's own."""
    found = ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


class TokenError(PipelineError):
    """A file that holds no token."""


class Guard:
    """Holds the headers of a request to what the server was started with."""

    def __init__(
        self,
        *,
        loopback: bool,
        names: Sequence[str] = (),
        token: str | None = None,
        admin_token: str | None = None,
    ) -> None:
        """A server on this machine's own address alone (`loopback`), or one that others reach.

        Args:
            loopback: it is called by this machine's own names alone, and by
            names: others, as a proxy of this machine hands them on.
            token: of who may ask; None: everybody.
            admin_token: of who may change engines; None: nobody.
        """
        self._loopback, self._token, self._admin_token = loopback, token, admin_token
        self._names = {name.lower() for name in names}

    def check(self, headers: Mapping[str, str], *, open_to_all: bool = False) -> None:
        """Whether the request may be looked at.

        Args:
            headers: their names in small letters.
            open_to_all: health and the page itself need no token.

        Raises:
            Refusal: 403, another site's page asks, or this machine's server under another name; 401, without the token.
        """
        host, origin = headers.get("host", ""), headers.get("origin", "")
        # A browser always names a host: who names none is no page's script, but a probe that speaks HTTP/1.0.
        if self._loopback and "host" in headers and not self._is_called_by(host):
            # A name of elsewhere may be made to point here: its page would read what this machine's own may.
            known = " or ".join(dict.fromkeys(["127.0.0.1", "localhost", *sorted(self._names)]))
            raise Refusal(403, "host", f"this server is called by {known}, not by {host[:100]!r} (--allow-host)")
        if origin and origin.partition("://")[2] != host:
            raise Refusal(403, "origin", f"a page of {origin[:100]!r} may not ask this server")
        if self._token is not None and not open_to_all:
            _hold(headers, self._token)

    def _is_called_by(self, host: str) -> bool:
        return bool(LOOPBACK.fullmatch(host)) or PORT.sub("", host).lower() in self._names

    def check_admin(self, headers: Mapping[str, str]) -> None:
        """Whether the request may change which engine is served.

        Raises:
            Refusal: 403, nobody may: the server has no such token; 401, without it.
        """
        if self._admin_token is None:
            raise Refusal(403, "admin", "engines are changed with a token: start the server with --admin-token-file")
        _hold(headers, self._admin_token)


def token_from_file(path: Path) -> str:
    """The one line of a file.

    Raises:
        TokenError: it cannot be read, or is no line of `LEAST_TOKEN` to `MOST_TOKEN` visible ASCII characters.
    """
    try:
        text = path.read_bytes()[: MOST_TOKEN + 3].decode("ascii").strip()
    except OSError as error:
        raise TokenError(f"the token {shown(path)} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        text = ""
    if not (LEAST_TOKEN <= len(text) <= MOST_TOKEN and text.isprintable() and " " not in text):
        raise TokenError(f"{shown(path)} is no token: expected one line of {LEAST_TOKEN} letters or more, no spaces")
    return text


def _hold(headers: Mapping[str, str], token: str) -> None:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
    if scheme.lower() != "bearer" or not right:
        challenge = {"WWW-Authenticate": "Bearer"}
        raise Refusal(401, "token", "the token is missing or wrong: Authorization: Bearer TOKEN", challenge)
