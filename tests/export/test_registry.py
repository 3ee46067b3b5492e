import pytest

from export import registry
from runtime.errors import ModelError
from tests.helpers.networks import size_of


def test_both_networks_are_there_in_alphabetical_order():
    names = registry.names()
    assert {"enet", "icnet"} <= set(names) and list(names) == sorted(names)
    assert [registry.find(name).name for name in names] == list(names)


@pytest.mark.parametrize("name", registry.names())
def test_a_name_that_is_taken_is_refused(name):
    before = registry.find(name)
    with pytest.raises(ValueError, match=f"'{name}' is already registered"):
        registry.register(before._replace(source="another"))
    assert registry.find(name) is before


def test_a_registered_network_is_found(monkeypatch):
    monkeypatch.setattr(registry, "_NETWORKS", dict(registry._NETWORKS))
    network = registry.find("enet")._replace(name="enet-wide")
    registry.register(network)
    assert registry.find("enet-wide") is network and "enet-wide" in registry.names()


@pytest.mark.parametrize(("typo", "meant"), [("enett", "enet"), ("inet", "icnet"), ("ICNet", None), ("", None)])
def test_an_unknown_name_says_which_was_meant_and_which_there_are(typo, meant):
    with pytest.raises(ModelError) as raised:
        registry.find(typo)
    message = str(raised.value)
    assert f"unknown model {typo!r}" in message and ", ".join(registry.names()) in message
    assert ("Did you mean" in message) == (meant is not None) and (meant is None or f"Did you mean {meant}?" in message)


@pytest.mark.parametrize("name", registry.names())
def test_every_multiple_is_taken(name):
    step = registry.find(name).size_multiple
    height, width = size_of(registry.find(name), step, step)
    for times in range(5):
        registry.check_size(registry.find(name), height, width + times * step)


@pytest.mark.parametrize(
    ("name", "size", "nearest"),
    [
        ("enet", (360, 641), "360x640"),
        ("enet", (7, 9), "8x8"),
        ("enet", (1, 3), "8x8"),
        ("icnet", (1025, 2049), "1024x2048"),
        ("icnet", (1024, 2030), "1024x2016"),
        ("icnet", (1000, 2048), "992x2048"),
        ("icnet", (15, 2048), "32x2048"),
    ],
)
def test_a_size_that_a_network_cannot_take_is_refused_with_the_nearest(name, size, nearest):
    with pytest.raises(ModelError) as raised:
        registry.check_size(registry.find(name), *size)
    message = str(raised.value)
    assert f"{name} takes" in message and f"got {size[0]}x{size[1]}" in message and f"SIZE={nearest}" in message
    registry.check_size(registry.find(name), *(int(n) for n in nearest.split("x")))
