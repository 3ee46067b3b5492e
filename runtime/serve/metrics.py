"""What `GET /metrics` tells, for Prometheus: the one file that knows its library."""

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

from runtime.serve.replies import Reply

PREFIX = "streetseg"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Watched(Protocol):
    """What of a `runtime.serve.service.Service` is looked at when somebody asks."""

    engines: Any
    admission: Any

    def queued(self) -> int:
        """Requests that are let in and in no lane."""

    def ready(self) -> bool:
        """Whether a request would be taken."""


class Metrics:
    """Counts of one server. For the thread of the event loop alone."""

    def __init__(self) -> None:
        """None yet; the process's memory and processor time are told from the start."""
        prometheus: Any = importlib.import_module("prometheus_client")
        prometheus.disable_created_metrics()  # a second line for each, which nobody asks for
        self._library = prometheus
        self._registry = prometheus.CollectorRegistry()
        make: dict[str, Any] = {"namespace": PREFIX, "registry": self._registry}
        self._requests = prometheus.Counter("requests", "Requests by route and status code", ("route", "code"), **make)
        self._refused = prometheus.Counter("refused", "Requests that were not served, by reason", ("reason",), **make)
        self._frames = prometheus.Counter("frames", "Frames that were segmented", ("engine",), **make)
        self._seconds = prometheus.Histogram(
            "request_seconds", "From the headers to the answer", buckets=SECONDS, **make
        )
        what = "Time of a request by stage"
        self._stages = prometheus.Histogram("stage_seconds", what, ("stage",), buckets=SECONDS, **make)
        prometheus.ProcessCollector(registry=self._registry)

    def watch(self, service: Watched) -> None:
        """Ask this service for its engines, and how many requests are in it, whenever somebody looks."""
        make: dict[str, Any] = {"namespace": PREFIX, "registry": self._registry}
        gauge = self._library.Gauge
        gauge("in_flight", "Requests that are let in", **make).set_function(lambda: service.admission.taken)
        gauge("queue", "Of them those in no lane of an engine", **make).set_function(service.queued)
        gauge("ready", "Whether requests are taken", **make).set_function(lambda: float(service.ready()))
        self._engines = gauge(
            "engine_info", "Engines served", ("engine", "network", "precision", "backend", "sha256"), **make
        )
        self._service = service

    def count(self, route: str, code: int, seconds: float, reason: str = "") -> None:
        """Count a request that is over; `reason` of one that was refused."""
        self._requests.labels(route, str(code)).inc()
        self._seconds.observe(seconds)
        if reason:
            self._refused.labels(reason).inc()

    def count_early(self, code: int, reason: str) -> None:
        """Count what was answered before there was a request: a connection too many, or no HTTP."""
        self._requests.labels("none", str(code)).inc()
        self._refused.labels(reason).inc()

    def done(self, engine: str, stages_ms: Mapping[str, float]) -> None:
        """Count a frame, and its times."""
        self._frames.labels(engine).inc()
        for name, milliseconds in stages_ms.items():
            self._stages.labels(name).observe(milliseconds / 1e3)

    def reply(self) -> Reply:
        """All of it as text."""
        self._engines.clear()
        for served in self._service.engines:
            manifest = served.manifest
            facts = (manifest.spec.name, manifest.precision, manifest.backend, manifest.engine_sha256)
            self._engines.labels(served.name, *facts).set(1)
        return Reply(200, self._library.generate_latest(self._registry), self._library.CONTENT_TYPE_LATEST)
