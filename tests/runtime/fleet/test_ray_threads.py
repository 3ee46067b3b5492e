import threading

import pytest

from runtime.fleet.ray_run import silence_rays_threads


@pytest.mark.parametrize(("name", "is_told"), [("ray_print_logs", False), ("ours", True)])
def test_threads_of_ray_say_nothing_while_it_ends_and_others_do(monkeypatch, name, is_told):
    heard = []
    monkeypatch.setattr(threading, "excepthook", lambda raised: heard.append(raised.thread.name))
    silence_rays_threads()
    thread = threading.Thread(target=lambda: 1 / 0, name=name)
    thread.start()
    thread.join()
    assert heard == [name] * is_told
