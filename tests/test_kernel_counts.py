"""The counter of `tests.kernel_counts`, on launches whose accesses can be counted by hand."""

import numpy as np
import pytest

from tests.helpers import cuda_on_cpu, kernel_runs
from tests.kernel_counts import Count, Counted

pytestmark = pytest.mark.skipif(cuda_on_cpu.compiler() is None, reason="no C++ compiler")
SHAPE = (1, 5, 8, 64)  # one block of threads, two positions each


@pytest.fixture(scope="module")
def place():
    return Counted(cuda_on_cpu.source())


def counted(place, logits, **how):
    place.counts.clear()
    mask = kernel_runs.postprocess(place, logits, 16, 128, 1, **how)
    return mask, dict(place.counts)


def test_each_warp_reads_a_row_of_each_class_and_writes_its_winners(place):
    _, counts = counted(place, np.zeros(SHAPE, np.float16))
    # Of a row 128 bytes a class, 4 sectors, and 64 bytes of winners.
    assert counts["coarse_winner_fp16"] == Count(accesses=8 * 6, lanes=8 * 6 * 32, full=8 * 6, sectors=8 * (5 * 4 + 2))


def test_where_one_class_wins_no_logit_is_read_and_all_lanes_are_busy(place):
    _, flat = counted(place, np.zeros(SHAPE, np.float16))
    upsample = flat["upsample_argmax_fp16"]
    # A row's sample, four pixels' with four winners each, a store; a sample is two accesses of eight bytes on this CPU.
    assert upsample.accesses == upsample.full == 16 * (2 + 4 * (2 + 4) + 1)
    logits = np.zeros(SHAPE, np.float16)
    logits[0, 3, :, 20:] = 1
    mask, edge = counted(place, logits)
    assert set(mask.flat) == {0, 3}
    more = edge["upsample_argmax_fp16"]
    assert more.accesses > upsample.accesses and more.full < more.accesses


def test_logits_with_channels_last_are_read_in_whole_vectors(place):
    _, counts = counted(place, np.zeros(SHAPE, np.float16), last=True)
    values = 5 * 8 * 64 * 2
    assert counts["coarse_winner_last_fp16"].sectors == values // 32 + 8 * 64 // 32
