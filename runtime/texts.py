"""Texts that others wrote - names of files, classes, models, chunks - made harmless for where they go.

One function for each kind of place: `shown` for a terminal, `markdown` for a page and a step summary, `xml` for JUnit,
`without_credentials` for an address anywhere. HTML has the standard library's `html.escape`.
"""

import re
from pathlib import Path
from urllib.parse import unquote

# What moves a terminal's cursor, changes its state, breaks a line, or turns the order in which letters are drawn.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
# Source: XML 1.0, production 2, Char: what no document may hold, not even as a reference.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What begins a tag, an entity, a link, a mention, emphasis, code, a sum or a cell; `_` within a word does not.
MARKDOWN = re.compile(r"[\\`*<>|~$]|\](?=[\[(:])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|@(?=\w)|&(?=[#\w])")
ADDRESS = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*://?[^\s'\"]+")
# Parameters of a stream's address that hold no secret, and tell one camera from the other; all others are hidden.
HARMLESS = frozenset(
    {"audio", "cam", "camera", "ch", "channel", "channels", "codec", "compression", "encoding", "fps", "height", "id"}
    | {"latency", "mode", "profile", "proto", "quality", "rate", "resolution", "rotation", "size", "stream"}
    | {"streamtype", "subtype", "timeout", "transport", "unicast", "video", "videocodec", "width"}
)
HIDDEN = "***"
SECRET = re.compile(
    r"(?i)\b((?:[\w%-]*(?:pass|pwd|psw|token|key|secret|sign|sig|auth|cred|user|login|session|jwt|nonce|hash|access)"
    r"[\w%-]*|pw|u|p|sid))=[^&;/?#\s]*"
)


def shown(text: object) -> str:
    """A text that stays on one line of a terminal and does nothing else there; an address without its credentials."""
    plain = _printable(str(text))
    whole = isinstance(text, Path) and ADDRESS.match(plain)  # a password may have spaces
    return UNSEEN.sub(_escape, _address(plain) if whole else without_credentials(plain))


def lines_shown(text: str) -> str:
    """Several lines, each as `shown`; tabs stay."""
    return "\n".join("\t".join(map(shown, line.split("\t"))) for line in text.split("\n"))


def markdown(text: object) -> str:
    """A text as itself in Markdown and in a table's cell: no tag, link, mention or emphasis is made of it."""
    return MARKDOWN.sub(_entity, shown(text))


def xml(text: str) -> str:
    """A text that an XML document may hold; characters that none may are told by their codes."""
    return FORBIDDEN.sub(_escape, text)


def without_credentials(text: str) -> str:
    """The text with nothing secret in the addresses that it names: no user, no password, no token.

    A password may hold `@` and `/` and `?`: where an address can have one, all up to its last `@` is left out. Of the
    query the parameters of `HARMLESS` keep their values.
    """
    return ADDRESS.sub(lambda found: _address(found[0]), text) if ":/" in text else text


def _address(address: str) -> str:
    scheme, mark, rest = address.partition("//") if "//" in address else address.partition("/")
    if scheme.lower() in ("file:", "about:"):
        return address
    beginning = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in beginning or (":" in beginning and "@" in rest):
        rest = rest.rpartition("@")[2]
    place, query_mark, query = rest.partition("?")
    place, fragment_mark, _ = place.partition("#")
    kept = SECRET.sub(rf"\1={HIDDEN}", place)
    query = "".join(map(_parameter, re.split("([&;])", query.partition("#")[0])))
    return scheme + mark + kept + (f"#{HIDDEN}" if fragment_mark else "") + query_mark + query


def _parameter(part: str) -> str:
    name, equals, _ = part.partition("=")
    if part in ("&", ";", "") or (equals and unquote(name).lower() in HARMLESS):
        return part
    return f"{name}={HIDDEN}" if equals else HIDDEN


def _printable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if _is_of_bytes(text) else text


def _is_of_bytes(text: str) -> bool:
    # Whether its lone surrogates are bytes of a file's name, as Python keeps those that are not UTF-8.
    return any("\udc80" <= letter <= "\udcff" for letter in text) and not re.search(
        "[\ud800-\udc7f\udd00-\udfff]", text
    )


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};" if found[0] in "<>&|@`" else f"\\{found[0]}"
