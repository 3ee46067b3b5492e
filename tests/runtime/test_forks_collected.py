"""A forked child never collects what its parent left behind, and has its collector as the parent had it."""

import gc
import os
import subprocess
import sys

import pytest

from runtime.backend import open_backend
from runtime.forks import Guard
from tests.helpers.children import in_child
from tests.helpers.engines import built_engine


def test_what_a_parent_left_behind_is_not_collected_in_a_child(tmp_path):
    class Left:
        def __init__(self, pid):
            self.pid, self.itself = pid, self

        def __del__(self):
            if os.getpid() != self.pid:
                freed.append(self.pid)

    def collected():
        Left(0)
        gc.collect()
        return freed

    freed = []
    with open_backend(built_engine(tmp_path)):
        gc.disable()
        try:
            Left(os.getpid())
            assert in_child(collected) == [0]
        finally:
            gc.enable()


HOOKS = """
import gc, os
os.register_at_fork(after_in_child=lambda: [[] for _ in range(9999)])  # called first, and made into a collection
from runtime.forks import Guard
class Left:
    def __init__(self):
        self.pid, self.itself = os.getpid(), self
    def __del__(self):
        if os.getpid() != self.pid:
            os.write(1, b"collected")
guard = Guard("the engine")
gc.collect()  # so that the next collection is not the parent's
Left()
pid = os.fork()
if pid == 0:
    gc.collect()
    os._exit(0)
os.waitpid(pid, 0)
"""


def test_what_others_have_called_in_a_child_collects_nothing_of_the_parent_s_either():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", HOOKS], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("enabled", [True, False])
def test_a_fork_leaves_the_collector_as_it_was(enabled):
    guard = Guard("the engine")
    (gc.enable if enabled else gc.disable)()
    try:
        assert in_child(gc.isenabled) is gc.isenabled() is enabled
    finally:
        gc.enable()
    assert not guard.foreign
