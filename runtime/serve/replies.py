"""What the server answers, before any web framework sees it."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from runtime.errors import PipelineError
from runtime.texts import shown

JSON = "application/json"
LONGEST = 1000  # characters of an error: names from a request may be of any length


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    kind: str = JSON  # its Content-Type
    headers: Mapping[str, str] = {}


class Refusal(PipelineError):
    """A request that is not served: the HTTP status and one line why; `reason` is one word for the metrics."""

    def __init__(self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})

    def reply(self) -> Reply:
        """What the client gets: `{"error": "..."}`, as the V2 protocol has it."""
        return json_reply({"error": shown(self)[:LONGEST]}, self.status, self.headers)


class LeftError(Exception):
    """The client is gone: nobody is there to be answered."""


def json_reply(values: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """JSON values as an answer."""
    return Reply(status, json.dumps(values).encode(), JSON, headers or {})
