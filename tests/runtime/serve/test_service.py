"""Requests through the threads of a service, over an engine made of NumPy."""

import asyncio

import pytest

from runtime import backend as runtime_backend
from runtime.serve.engines import Engines, Named, Opening, opened
from runtime.serve.limits import Limits
from runtime.serve.options import limits_of, options_of
from runtime.serve.recent import FEWEST
from runtime.serve.replies import LeftError, Refusal
from runtime.serve.service import Service
from tests.helpers.fake_backend import PICTURE, replaced_modules, write_fake_engine

SECONDS = 0.2  # of a frame


class NoMetrics:
    """Counts nothing."""

    def watch(self, service):
        pass

    def done(self, engine, stages_ms):
        pass


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A function: what so many requests at once get of one lane with one place beside it, sorted as text."""
    for name, module in replaced_modules().items():
        monkeypatch.setitem(runtime_backend.MODULES, name, module)
    path = write_fake_engine(tmp_path, delay_s=SECONDS)

    async def all_of(service, count):
        asking = [service.segment("", {}, PICTURE) for _ in range(count)]
        return await asyncio.gather(*asking, return_exceptions=True)

    def run(count, before_s=(), **limits):
        served = opened(Named("street", path), Opening(lanes=1))
        service = Service(Engines([served]), Limits(queue=1, **limits), NoMetrics())
        try:
            for seconds in before_s:
                served.recent.add(seconds)
            got = asyncio.run(all_of(service, count))
        finally:
            service.close()
        return sorted(str(each.reason if isinstance(each, Refusal) else each.status) for each in got), served.recent

    return run


def test_who_cannot_be_answered_within_the_bound_is_late_where_more_come_than_there_are_places_for(asked):
    quick = [SECONDS / 4] * FEWEST
    assert asked(3, quick)[0] == ["200", "late", "queue"]
    assert asked(2, quick)[0] == ["200", "200"]
    assert asked(3, quick, wait_s=0.0)[0] == ["200", "200", "queue"]
    assert asked(3)[0] == ["200", "200", "queue"]  # nothing is measured yet


def test_requests_that_wait_are_measured_and_one_with_all_cores_is_not(asked):
    assert [len(asked(count)[1]._last_s) for count in (1, 2)] == [0, 1]


def test_the_wait_is_bounded_by_itself_or_by_a_number_of_seconds(capsys):
    given = {(): None, ("--wait-seconds", "auto"): None, ("--wait-seconds", "0"): 0, ("--wait-seconds", "0.5"): 0.5}
    assert {words: limits_of(options_of(words)).wait_s for words in given} == given
    for wrong in ("-1", "1e9", "nan", "soon"):
        with pytest.raises(SystemExit):
            options_of(["--wait-seconds", wrong])
    assert "-1' is not a number of seconds, 0 to 86400, or auto" in capsys.readouterr().err


def test_who_leaves_while_it_waits_for_a_lane_is_not_segmented(tmp_path, monkeypatch):
    for name, module in replaced_modules().items():
        monkeypatch.setitem(runtime_backend.MODULES, name, module)
    served = opened(Named("street", write_fake_engine(tmp_path, delay_s=SECONDS)), Opening(lanes=1))
    service = Service(Engines([served]), Limits(queue=2), NoMetrics())
    before = served.lanes._backends[0].segmented

    async def run():
        first = asyncio.ensure_future(service.segment("", {}, PICTURE))
        while not served.busy():
            await asyncio.sleep(0.01)
        second = asyncio.ensure_future(service.segment("", {}, PICTURE))
        await asyncio.sleep(SECONDS / 4)  # it is decoded by now
        second.cancel()
        with pytest.raises((asyncio.CancelledError, LeftError)):
            await second
        assert (await first).status == 200 and service.admission.taken == 0

    try:
        asyncio.run(run())
        assert served.lanes._backends[0].segmented == before + 1
    finally:
        service.close()
