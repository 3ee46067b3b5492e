import asyncio
import gc
import weakref

import pytest

from runtime.serve.limits import Limits
from runtime.serve.replies import LeftError, Refusal
from runtime.serve.uploads import Upload, Uploads

LIMITS = Limits(body_bytes=10, upload_s=0.2, uploads=2)


def receiving(*parts, then=None):
    """An ASGI receive: these parts, the last one being the last, then `then`, or nothing for ever."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if messages and then is None:
        messages[-1]["more_body"] = False

    async def receive():
        if messages:
            return messages.pop(0)
        if then == "left":
            return {"type": "http.disconnect"}
        return await asyncio.get_running_loop().create_future()

    receive.messages = messages
    return receive


def upload(*parts, then=None, uploads=None):
    return Upload(receiving(*parts, then=then), uploads or Uploads(LIMITS))


def test_the_parts_of_a_body_are_put_together():
    async def run():
        assert await upload(b"abc", b"", b"def").body(6) == b"abcdef"
        assert await upload(b"0123456789").body(None) == b"0123456789"

    asyncio.run(run())


@pytest.mark.parametrize("announced", [11, None])
def test_a_body_over_the_limit_is_refused_whether_it_says_so_or_not(announced):
    async def run():
        body = upload(b"01234567", b"89ab", b"c")
        with pytest.raises(Refusal, match="MiB") as caught:
            await body.body(announced)
        assert caught.value.status == 413 and not body.whole
        await body.drop()
        assert body.whole and not body._receive.messages

    asyncio.run(run())


def test_a_body_that_does_not_come_in_time_is_refused_and_its_place_given_back():
    async def run():
        uploads = Uploads(LIMITS)
        body = upload(b"abc", then="silence", uploads=uploads)
        with pytest.raises(Refusal) as caught:
            await body.body(6)
        assert caught.value.status == 408 and not uploads.reading

    asyncio.run(run())


def test_who_leaves_while_it_sends_is_not_answered():
    async def run():
        uploads = Uploads(LIMITS)
        with pytest.raises(LeftError):
            await upload(b"abc", then="left", uploads=uploads).body(6)
        assert not uploads.reading

    asyncio.run(run())


def test_more_bodies_at_once_than_allowed_are_told_to_come_again():
    async def run():
        uploads = Uploads(LIMITS)
        slow = [asyncio.ensure_future(upload(b"a", then="silence", uploads=uploads).body(None)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as caught:
            await upload(b"a", uploads=uploads).body(None)
        assert caught.value.status == 503 and caught.value.headers["Retry-After"]
        await asyncio.gather(*slow, return_exceptions=True)
        assert await upload(b"a", uploads=uploads).body(None) == b"a"

    asyncio.run(run())


def test_what_has_not_come_when_the_server_stops_is_told_so_and_what_comes_then_too():
    async def run():
        uploads = Uploads(LIMITS._replace(upload_s=30))
        going = asyncio.ensure_future(upload(b"a", then="silence", uploads=uploads).body(None))
        await asyncio.sleep(0.01)
        uploads.stop()
        for each in (going, upload(b"a", uploads=uploads).body(None)):
            with pytest.raises(Refusal, match="stopping") as caught:
                await asyncio.wait_for(each, 5)
            assert caught.value.status == 503
        assert not uploads.reading

    asyncio.run(run())


def test_dropping_a_body_that_never_ends_ends():
    async def run():
        await asyncio.wait_for(upload(b"a", then="silence").drop(), 5)
        await asyncio.wait_for(upload(b"a", then="left").drop(), 5)

    asyncio.run(run())


def test_work_is_cancelled_when_its_client_leaves():
    async def run():
        ended = []

        async def work():
            try:
                await asyncio.sleep(30)
            finally:
                ended.append(True)

        body = upload(b"a", then="left")
        body._receive.messages.clear()
        with pytest.raises(LeftError):
            await body.unless_left(work())
        assert ended == [True]

    asyncio.run(run())


def test_who_leaves_just_when_the_work_is_done_is_too_late_to_end_what_follows():
    async def run():
        body, gone = upload(b""), asyncio.get_running_loop().create_future()

        async def receive():
            return await gone

        async def work():
            await asyncio.sleep(0)
            gone.set_result({"type": "http.disconnect"})
            await asyncio.sleep(0)  # it is seen, and what that calls is called next
            return 7

        body._receive = receive
        assert await body.unless_left(work()) == 7
        await asyncio.sleep(0.01)

    asyncio.run(run())


def test_work_that_is_cancelled_by_others_is_no_client_that_left():
    async def run():
        for doing in (upload(b"", then="silence").unless_left(asyncio.sleep(30)),
                      upload(b"a", then="silence").body(None)):  # fmt: skip
            task = asyncio.ensure_future(doing)
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())


def test_work_whose_client_waits_gives_what_it_gives_or_raises():
    async def run():
        async def work():
            return 7

        async def wrong():
            raise KeyError("x")

        body = upload(b"a")
        await body.body(1)
        assert await body.unless_left(work()) == 7
        with pytest.raises(KeyError):
            await body.unless_left(wrong())

    asyncio.run(run())


class Large:
    """A frame, say."""


def test_what_work_was_given_is_freed_at_once_where_it_is_refused():
    async def work(given):
        await asyncio.sleep(0)
        raise Refusal(503, "late", "it waited")

    async def run(given):
        with pytest.raises(Refusal):
            await upload(b"", then="silence").unless_left(work(given))

    given = Large()
    seen = weakref.ref(given)
    gc.disable()
    try:
        asyncio.run(run(given))
        del given
        assert seen() is None
    finally:
        gc.enable()
