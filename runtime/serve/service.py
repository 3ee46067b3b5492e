"""What the server does with a request: let in, decode, segment, encode; each in threads, in bounded numbers."""

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from runtime.media.pictures import Segmented, workers
from runtime.serve import v2
from runtime.serve.admission import Admission
from runtime.serve.answers import answer_of, class_values
from runtime.serve.asked import Asked, asked_from_query
from runtime.serve.bodies import frame_from_body
from runtime.serve.engines import Engines, Served
from runtime.serve.limits import Limits
from runtime.serve.metrics import Metrics
from runtime.serve.pools import Timed, in_thread
from runtime.serve.replies import Refusal, Reply, json_reply

PARTS = ("preprocess", "network", "postprocess")  # of `segment`, where the backend tells them
STAGES = ("decode", "queue", *PARTS, "segment", "encode")

Encode = Callable[[Segmented], Reply]


class Service:
    """The engines and their threads. For the thread of the event loop alone."""

    def __init__(self, engines: Engines, limits: Limits, metrics: Metrics) -> None:
        """Take over the engines: `close` closes them."""
        self.engines, self.limits, self._metrics = engines, limits, metrics
        self.admission = Admission(engines.lanes(), limits.queue)
        self._decoding = ThreadPoolExecutor(workers(), "decode")
        self._encoding = ThreadPoolExecutor(workers(), "encode")
        metrics.watch(self)

    async def segment(self, query: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """`POST /segment`: a picture in, a mask out.

        Raises:
            Refusal, FrameError: why not.
        """
        asked = asked_from_query(query, headers.get("accept", ""))
        served = self.engines.find(asked.engine)
        self._refuse_confidence(served, asked.void_below)
        encode = partial(answer_of, asked=asked, spec=served.spec)
        return await self._done(served, partial(frame_from_body, body, headers), encode, asked)

    async def infer(self, model: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """`POST /v2/models/NAME/infer`.

        Raises:
            Refusal, FrameError: why not.
        """
        served = self.engines.find(model)
        length = headers.get(v2.HEADER_LENGTH)
        read = partial(v2.inference_from_body, body, length, served.spec)
        with self.admission.place(), self.engines.used(served):
            inference, waited_ms, took_ms = await in_thread(self._decoding, read)
            asked = Asked(**inference.values)
            if asked.void_below is None and any(each.name == v2.CONFIDENCE for each in inference.outputs):
                asked = Asked(**{**inference.values, "void_below": 0})
            self._refuse_confidence(served, asked.void_below)
            stages = Counter({"queue": waited_ms, "decode": took_ms})
            return await self._through(
                served, inference.frame, lambda seen: v2.reply_to(inference, model, seen.seen), asked, stages
            )

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
        for pool in (self._decoding, self._encoding):
            pool.shutdown()
        for served in self.engines:
            served.close()

    async def _done(self, served: Served, decode: Callable[[], np.ndarray], encode: Encode, asked: Asked) -> Reply:
        with self.admission.place(), self.engines.used(served):
            frame, waited_ms, took_ms = await in_thread(self._decoding, decode)
            stages = Counter({"queue": waited_ms, "decode": took_ms})
            return await self._through(served, frame, encode, asked, stages)

    async def _through(
        self, served: Served, frame: np.ndarray, encode: Encode, asked: Asked, stages: "Counter[str]"
    ) -> Reply:
        segmented = await in_thread(served.pool, served.segment, frame, asked.fit, asked.void_below)
        encoded = await in_thread(self._encoding, encode, segmented.value)
        stages.update(_stages(segmented, encoded))
        self._metrics.done(served.name, stages)
        reply: Reply = encoded.value
        sha = served.manifest.engine_sha256[:12]
        named = {"Server-Timing": server_timing(stages), "X-Engine": f"{served.name}; sha256={sha}"}
        return reply._replace(headers={**reply.headers, **named})

    def _refuse_confidence(self, served: Served, void_below: int | None) -> None:
        if void_below is not None and v2.CONFIDENCE not in v2.outputs_of(served.spec):
            raise Refusal(
                400, "parameter", f"{served.spec.name} has no confidence: its graph gives class ids, no logits"
            )


def server_timing(stages: Mapping[str, float]) -> str:
    """The header of that name, ms. Source: W3C Server Timing."""
    return ", ".join(f"{name};dur={stages[name]:.2f}" for name in STAGES if name in stages)


def _stages(segmented: Timed, encoded: Timed) -> dict[str, float]:
    value: Segmented = segmented.value
    parts = {name: value.parts_ms[name] for name in PARTS if name in value.parts_ms}
    waited = {"queue": segmented.waited_ms + encoded.waited_ms, "encode": encoded.took_ms}
    return (parts or {"segment": segmented.took_ms}) | waited


def ready_reply(is_ready: bool) -> Reply:
    """What `GET /v2/health/ready` answers."""
    values: dict[str, Any] = {"ready": is_ready}
    return json_reply(values, 200 if is_ready else 503)
