"""What the server does with a request: let in, decode, segment, encode; in threads, in bounded numbers."""

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from runtime.backend import Stopwatch
from runtime.media.pictures import Segmented
from runtime.serve import v2
from runtime.serve.admission import Admission
from runtime.serve.answers import answer_of, class_values
from runtime.serve.asked import Asked, asked_from_query
from runtime.serve.bodies import frame_from_body
from runtime.serve.engines import Engines, Served
from runtime.serve.limits import Limits
from runtime.serve.metrics import Metrics
from runtime.serve.pools import in_thread
from runtime.serve.replies import LeftError, Reply, json_reply

PARTS = ("preprocess", "network", "postprocess")  # of `segment`, where the backend tells them
STAGES = ("decode", "queue", *PARTS, "segment", "encode")

Stages = Mapping[str, float]  # ms


class Decoded(NamedTuple):
    """A request in which everything is known: the frame, uint8 (H, W, 3) RGB, and how its mask becomes the answer."""

    frame: np.ndarray
    asked: Asked
    encode: Callable[[Segmented], Reply]


Decode = Callable[[], Decoded]


class Service:
    """The engines and their threads. For the thread of the event loop alone."""

    def __init__(self, engines: Engines, limits: Limits, metrics: Metrics) -> None:
        """Take over the engines: `close` closes them."""
        self.engines, self.limits, self._metrics = engines, limits, metrics
        self.admission = Admission(engines.lanes(), limits.queue, limits.wait_s)
        metrics.watch(self)

    async def segment(self, query: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """`POST /segment`: a picture in, a mask out.

        Raises:
            Refusal, FrameError: why not.
        """
        asked = asked_from_query(query, headers.get("accept", ""))
        served = self.engines.find(asked.engine)
        v2.refuse_confidence(served.spec, asked)
        encode = partial(answer_of, asked=asked, spec=served.spec)
        return await self._done(served, lambda: Decoded(frame_from_body(body, headers), asked, encode))

    async def infer(self, model: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """`POST /v2/models/NAME/infer`.

        Raises:
            Refusal, FrameError: why not.
        """
        served = self.engines.find(model)
        length = headers.get(v2.HEADER_LENGTH)

        def decode() -> Decoded:
            inference = v2.inference_from_body(body, length, served.spec)
            asked = v2.asked_of(inference.values, {each.name for each in inference.outputs}, served.spec)
            return Decoded(inference.frame, asked, lambda segmented: v2.reply_to(inference, model, segmented.seen))

        return await self._done(served, decode)

    def ready(self) -> bool:
        """Whether a request would be taken: not while the server stops, nor while a frame hangs in a lane."""
        stalled = any(served.oldest_s() > self.limits.stall_s for served in self.engines)
        return not (self.admission.closed or stalled)

    def queued(self) -> int:
        """Requests that are let in and in no lane: they wait, are decoded or encoded."""
        return max(0, self.admission.taken - sum(served.busy() for served in self.engines))

    def listed(self) -> Reply:
        """`GET /engines`: what is served, for the page."""
        return json_reply(
            [
                {
                    "name": served.name,
                    "network": served.spec.name,
                    "precision": served.manifest.precision,
                    "executed": served.manifest.executed,
                    "backend": served.manifest.backend,
                    "size": [served.spec.preprocess.height, served.spec.preprocess.width],
                    "fit": served.spec.preprocess.fit,
                    "lanes": served.lanes.count,
                    "engine_sha256": served.manifest.engine_sha256,
                    "classes": class_values(served.spec),
                }
                for served in self.engines
            ]
        )

    def close(self) -> None:
        """Finish what is begun, then free everything."""
        for served in self.engines:
            served.close()

    async def _done(self, served: Served, decode: Decode) -> Reply:
        with self.admission.place() as came, self.engines.used(served):
            crowded, left = served.users > served.lanes.count, threading.Event()
            work = partial(self._work, served, decode, came, left)
            done = await in_thread(served.pool, work, left=left, ends=lambda: self.admission.closed)
            reply: Reply
            reply, laps_ms, segmented = done.value
            if crowded:
                # Not of who has all cores to itself: nobody who waits will be as quick.
                own_ms = sum(laps_ms[name] for name in ("decode", "segment", "encode"))
                served.recent.add(own_ms / 1e3, done.late_ms / 1e3)
        stages = _stages(laps_ms, done.waited_ms, segmented)
        self._metrics.done(served.name, stages)
        sha = served.manifest.engine_sha256[:12]
        named = {"Server-Timing": server_timing(stages), "X-Engine": f"{served.name}; sha256={sha}"}
        return reply._replace(headers={**reply.headers, **named})

    def _work(
        self, served: Served, decode: Decode, came: float, left: threading.Event
    ) -> tuple[Reply, Stages, Segmented]:
        # One thread does all of a request, each change of threads costs a wake-up; it waits for a lane in between.
        self.admission.refuse_late(came, served.lanes.count, served.recent)
        clock = Stopwatch()
        frame, asked, encode = decode()
        clock.lap("decode")
        with served.turn:
            clock.lap("turn")
            if left.is_set():
                raise LeftError
            self.admission.refuse_late(came, served.lanes.count, served.recent)
            segmented = served.segment(frame, asked.fit, asked.void_below)
            clock.lap("segment")
        reply = encode(segmented)
        clock.lap("encode")
        return reply, clock.laps_ms, segmented


def server_timing(stages: Mapping[str, float]) -> str:
    """The header of that name, ms. Source: W3C Server Timing."""
    return ", ".join(f"{name};dur={stages[name]:.2f}" for name in STAGES if name in stages)


def _stages(laps_ms: Stages, waited_ms: float, segmented: Segmented) -> Stages:
    # Waited for a thread and for a lane. In place of the whole of `segment` its parts, where the backend tells them.
    parts = {name: segmented.parts_ms[name] for name in PARTS if name in segmented.parts_ms}
    network = parts or {"segment": laps_ms["segment"]}
    return {"decode": laps_ms["decode"], "queue": waited_ms + laps_ms["turn"], **network, "encode": laps_ms["encode"]}


def ready_reply(is_ready: bool) -> Reply:
    """What `GET /v2/health/ready` answers."""
    values: dict[str, Any] = {"ready": is_ready}
    return json_reply(values, 200 if is_ready else 503)
