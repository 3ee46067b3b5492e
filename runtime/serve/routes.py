"""Which address does what."""

from functools import partial

from runtime.samples import STREET
from runtime.serve import v2
from runtime.serve.app import Call, Route
from runtime.serve.bodies import refuse_encoded
from runtime.serve.metrics import Metrics
from runtime.serve.page import page_reply
from runtime.serve.replies import Refusal, Reply, json_reply
from runtime.serve.service import Service, ready_reply
from runtime.serve.swap import Swapper, swap_from_body


def routes_of(service: Service, swapper: Swapper, metrics: Metrics) -> list[Route]:
    """The addresses of a service."""
    return [
        Route("/engine", {"POST": partial(_swap, swapper)}, admin=True),
        Route("/segment", {"POST": partial(_segment, service)}),
        Route("/engines", {"GET": partial(_engines, service)}),
        Route("/metrics", {"GET": partial(_metrics, metrics)}),
        Route("/", {"GET": _page}, open_to_all=True),
        Route("/sample.jpg", {"GET": _sample}, open_to_all=True),
        Route("/v2", {"GET": _server}),
        Route("/v2/health/live", {"GET": _live}, open_to_all=True),
        Route("/v2/health/ready", {"GET": partial(_ready, service)}, open_to_all=True),
        *(route for at in ("", "/versions/{version}") for route in _of_a_model(service, "/v2/models/{model}" + at)),
    ]


def _of_a_model(service: Service, at: str) -> list[Route]:
    return [
        Route(at, {"GET": partial(_model, service)}),
        Route(f"{at}/ready", {"GET": partial(_model_ready, service)}),
        Route(f"{at}/infer", {"POST": partial(_infer, service)}),
    ]


async def _segment(service: Service, call: Call) -> Reply:
    refuse_encoded(call.headers)
    return await service.segment(call.query, call.headers, call.body)


async def _swap(swapper: Swapper, call: Call) -> Reply:
    return json_reply(await swapper.replace(*swap_from_body(call.body)))


async def _engines(service: Service, call: Call) -> Reply:
    return service.listed()


async def _metrics(metrics: Metrics, call: Call) -> Reply:
    return metrics.reply()


async def _page(call: Call) -> Reply:
    return page_reply()


async def _sample(call: Call) -> Reply:
    return Reply(200, STREET.read_bytes(), "image/jpeg")


async def _server(call: Call) -> Reply:
    return json_reply(v2.server_metadata())


async def _live(call: Call) -> Reply:
    return json_reply({"live": True})


async def _ready(service: Service, call: Call) -> Reply:
    return ready_reply(service.ready())


async def _model(service: Service, call: Call) -> Reply:
    name = _name(call)
    return json_reply(v2.model_metadata(name, service.engines.find(name).manifest))


async def _model_ready(service: Service, call: Call) -> Reply:
    service.engines.find(_name(call))
    return ready_reply(service.ready())


async def _infer(service: Service, call: Call) -> Reply:
    refuse_encoded(call.headers)
    return await service.infer(_name(call), call.headers, call.body)


def _name(call: Call) -> str:
    version = call.path.get("version", v2.VERSION)
    if version != v2.VERSION:
        raise Refusal(404, "version", f"there is no version {version[:50]!r}, only {v2.VERSION}")
    return call.path["model"]
