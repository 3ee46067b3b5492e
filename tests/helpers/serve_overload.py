"""Many times more than a server can do, offered: what is answered, how soon, and what memory becomes."""

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from tests.helpers.fake_server import Server
from tests.helpers.serve_direct import memory_mib
from tests.helpers.serve_load import Seen, flood, good

WARM = 8  # requests before


def overload(
    servers: Sequence[Server], picture: bytes, rate: float, seconds: float, floods: int, places_a_lane: float
) -> list[dict[str, Any]]:
    """What each server answers, in turns: medians of so many floods, and their sums.

    Args:
        servers: each is flooded as often.
        picture: that is sent.
        rate: requests a second.
        seconds: of a flood.
        floods: of each server.
        places_a_lane: (queue + lanes) / lanes.
    """
    for each in servers:
        good(each, picture, WARM, 1)
    memory = [[_resident(each)] for each in servers]
    rounds: list[list[dict[str, Any]]] = [[] for _ in servers]
    for _ in range(floods):
        for index, each in enumerate(servers):
            rounds[index].append(told(flood(each, picture, rate, seconds), seconds, places_a_lane))
            memory[index].append(_resident(each))
    return [
        _summed(own, rate, seconds) | {"rss_mib": rss, "peak_mib": memory_mib(each.process.pid, "VmHWM")}
        for each, own, rss in zip(servers, rounds, memory, strict=True)
    ]


def told(seen: Sequence[Seen], seconds: float, places_a_lane: float) -> dict[str, Any]:
    """What one flood got.

    `service` is a request's time without its wait; `bound` as many of its means as requests have places for each lane;
    `inside` what the server tells of a request, wait and all: the client adds the way to it and back.
    """
    accepted = [each for each in seen if each.status == 200]
    refused = [each.seconds for each in seen if each.status == 503]
    inside = [sum(each.stages_ms.values()) for each in accepted]
    service = [whole - each.stages_ms["queue"] for whole, each in zip(inside, accepted, strict=True)]
    bound = places_a_lane * float(np.mean(service)) / 1e3
    p50, p99 = (float(np.percentile([each.seconds for each in accepted], share)) for share in (50, 99))
    return {
        "statuses": {str(code): count for code, count in Counter(each.status for each in seen).items()},
        "accepted_per_s": len(accepted) / seconds, "p50_s": p50, "p99_s": p99, "bound_s": bound,
        "p99_of_bound": p99 / bound, "inside_p99_of_bound": float(np.percentile(inside, 99)) / 1e3 / bound,
        "service_ms": float(np.mean(service)),
        "service_p50_ms": float(np.percentile(service, 50)), "service_p99_ms": float(np.percentile(service, 99)),
        "refused_ms": 1e3 * median(refused) if refused else 0.0,
    }  # fmt: skip


def _summed(rounds: list[dict[str, Any]], rate: float, seconds: float) -> dict[str, Any]:
    statuses: Counter[str] = sum((Counter(each.pop("statuses")) for each in rounds), Counter())
    medians = {name: median(each[name] for each in rounds) for name in rounds[0]}
    return {"offered_per_s": rate, "seconds": len(rounds) * seconds, "statuses": statuses, "rounds": rounds, **medians}


def _resident(server: Server) -> float:
    return memory_mib(server.process.pid, "VmRSS")
