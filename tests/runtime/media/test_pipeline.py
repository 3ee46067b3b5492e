"""The overlapped stages: order, bounds, faults; with waits in place of work."""

import threading
import time
from itertools import count, islice

import pytest

from runtime.errors import FrameError
from runtime.media.pictures import ahead_of
from runtime.media.pipeline import END, Clock, Stage, live_items, one_after_another, overlapped

WAIT_S = 0.02
PATIENCE_S = 20.0
# Three equal stages overlapped are 2.6 times as fast, without any overlap 1.0; between them, for loaded machines.
OVERLAP = 1.3


def waiting(seconds):
    def work(item):
        time.sleep(seconds)
        return item

    return work


wait = waiting(WAIT_S)


def stages(first=wait, second=wait, third=wait, **kinds):
    return [Stage(name, work, **kinds) for name, work in zip("abc", (first, second, third), strict=True)]


def values(passages):
    return [passage.value for passage in passages]


def stage_threads():
    return len([thread for thread in threading.enumerate() if thread.name[:2] in ("a_", "b_", "c_")])


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_results_come_in_the_order_of_the_items(workers, ahead):
    def uneven(item):
        time.sleep(0.001 * (item % 3))
        return item

    run = overlapped(range(30), stages(uneven, uneven, uneven, workers=workers, ahead=ahead), Clock())
    assert values(run) == list(range(30)) and stage_threads() == 0


def test_stages_work_at_the_same_time():
    # The last stage cannot finish the first item before the first stage has worked on the third.
    third_begun = threading.Event()

    def first(item):
        if item == 2:
            third_begun.set()
        return item

    def last(item):
        return item if third_begun.wait(PATIENCE_S) else "alone"

    assert values(overlapped(range(5), stages(first, waiting(0), last), Clock())) == [0, 1, 2, 3, 4]
    third_begun.clear()
    chosen = stages(first, waiting(0), lambda item: third_begun.is_set())
    assert values(one_after_another(range(5), chosen, Clock())) == [False, False, True, True, True]


def test_workers_of_one_stage_work_at_the_same_time():
    together = threading.Barrier(4)
    run = overlapped(range(12), [Stage("a", lambda _: together.wait(PATIENCE_S), workers=4, ahead=4)], Clock())
    assert sorted(values(run)) == sorted([0, 1, 2, 3] * 3)


@pytest.mark.parametrize("lanes", [2, 4])
def test_a_lane_that_is_held_up_holds_up_no_other(lanes):
    goes_on = threading.Event()

    def work(item):
        if item == 0:
            assert goes_on.wait(10), "the others wait for it"
        if item == 3 * lanes - 1:
            goes_on.set()
        return item

    stages = [Stage("segment", work, lanes, lanes + ahead_of(lanes)), Stage("encode", lambda item: item)]
    assert [passage.value for passage in overlapped(range(20), stages, Clock())] == list(range(20))


def test_overlapping_is_faster():
    start = time.perf_counter()
    list(one_after_another(range(12), stages(), Clock()))
    middle = time.perf_counter()
    list(overlapped(range(12), stages(), Clock()))
    assert (middle - start) / (time.perf_counter() - middle) > OVERLAP


def test_busy_is_the_share_of_the_time_in_which_a_stage_worked():
    clock = Clock()
    list(one_after_another(range(4), stages(waiting(0.06), waiting(0.02), waiting(0)), clock))
    clock.stop()
    busy = clock.busy()
    assert 0.4 < busy["a"] < 0.95 and busy["a"] > 2 * busy["b"] > busy["c"] and sum(busy.values()) <= 1
    clock.workers["a"] = 2
    assert clock.busy()["a"] == pytest.approx(busy["a"] / 2)


class Frame:
    """Counts those that are alive."""

    alive = 0

    def __init__(self):
        Frame.alive += 1

    def __del__(self):
        Frame.alive -= 1


@pytest.mark.parametrize("slow", ["stage", "consumer"])
def test_live_frames_are_bounded_whoever_is_slow(slow):
    chosen = stages(lambda _: Frame(), waiting(0.004 if slow == "stage" else 0), waiting(0), ahead=3, workers=2)
    most = 0
    for _ in overlapped(range(60), chosen, Clock()):
        time.sleep(0.004 if slow == "consumer" else 0)
        most = max(most, Frame.alive)
    assert 0 < most <= live_items(chosen) == 13
    assert Frame.alive <= 1


def test_nothing_is_taken_from_a_source_before_there_is_room():
    taken = []
    run = overlapped((taken.append(i) or i for i in count()), stages(ahead=2), Clock())
    assert values(islice(run, 3)) == [0, 1, 2] and stage_threads() == 3
    assert len(taken) <= 3 + live_items(stages(ahead=2))
    run.close()
    assert stage_threads() == 0


def test_without_lookahead_an_item_is_taken_when_the_one_before_is_done():
    events = []
    source = (events.append(f"take {i}") or i for i in range(3))
    list(overlapped(source, [Stage("a", lambda i: events.append(f"done {i}"), ahead=0)], Clock()))
    assert events == ["take 0", "done 0", "take 1", "done 1", "take 2", "done 2"]


@pytest.mark.parametrize("run", [overlapped, one_after_another])
def test_a_frame_error_is_the_result_of_that_item_alone(run):
    def refuse(item):
        if item == 2:
            raise FrameError("damaged")
        return item

    seen = []
    found = values(run(range(5), stages(refuse, waiting(0), lambda i: seen.append(i) or i), Clock()))
    assert [str(value) for value in found] == ["0", "1", "damaged", "3", "4"] and seen == [0, 1, 3, 4]


@pytest.mark.parametrize("failing", [0, 1, 2, "source"])
def test_a_fault_in_any_stage_ends_the_run_and_leaves_no_thread(failing):
    def fail(item):
        if item == 3:
            raise OSError("no space left")
        return item

    works = [fail if i == failing else waiting(0.001) for i in range(3)]
    source = map(fail, count()) if failing == "source" else count()
    done = []
    with pytest.raises(OSError, match="no space left"):
        done += (passage.value for passage in overlapped(source, stages(*works, ahead=4, workers=2), Clock()))
    assert done == [0, 1, 2][: len(done)] and stage_threads() == 0


def test_a_consumer_that_stops_ends_the_run():
    run = overlapped(count(), stages(), Clock())
    next(run)
    run.close()
    assert stage_threads() == 0


@pytest.mark.parametrize("run", [overlapped, one_after_another])
def test_work_that_returns_the_end_ends_the_run_after_what_is_on_its_way(run):
    assert values(run(count(), stages(lambda i: END if i >= 5 else i, ahead=3), Clock())) == [0, 1, 2, 3, 4]
    assert stage_threads() == 0


def test_every_passage_tells_its_milliseconds_and_the_clock_their_sum():
    clock = Clock()
    passages = list(overlapped(range(4), stages(), clock))
    assert all(list(passage.milliseconds) == ["a", "b", "c"] for passage in passages)
    assert clock.busy_ms["b"] == pytest.approx(sum(passage.milliseconds["b"] for passage in passages))
    assert min(passage.milliseconds["c"] for passage in passages) >= WAIT_S * 1e3 * 0.9
