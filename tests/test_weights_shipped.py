"""The weights in the repository are the ones that their model cards describe."""

import hashlib

import pytest

from export import registry
from export.checkpoints.sources import SHIPPED
from export.checkpoints.weights import load, read_weights

CARDS = sorted(SHIPPED.glob("*.md"))
LARGEST = 20 << 20


def test_every_network_of_the_papers_is_shipped_with_a_card():
    assert {card.stem for card in CARDS} == {
        f"{name}-camvid" for name in ("ddrnet23-slim", "enet", "fast-scnn", "icnet")
    }


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_a_card_names_its_file_and_the_file_fits_its_network(card):
    path = card.with_suffix(".safetensors")
    content = path.read_bytes()
    assert len(content) < LARGEST
    assert hashlib.sha256(content).hexdigest() in card.read_text()
    weights = read_weights(path)
    load(registry.find(card.stem.removesuffix("-camvid")).build(len(weights.classes)), weights)
    assert all(label.name in card.read_text() for label in weights.classes)
