import pytest

from calib.sample import FEWEST
from calib.table import SHIPPED, load_table
from export.checkpoints.sources import default_weights
from runtime.artifacts import sha256_of

MODELS = ("ddrnet23-slim", "enet", "fast-scnn", "icnet", "icnet-sub24", "icnet-sub4")
LARGEST_BYTES = 300_000


@pytest.mark.parametrize("model", MODELS)
def test_the_shipped_table_is_of_the_shipped_weights_and_of_enough_training_frames(model):
    table = load_table(SHIPPED / f"{model}-camvid.json")
    assert table.weights_sha256 == sha256_of(default_weights(model))
    assert (table.model, table.size) == (model, (1024, 2048))
    assert len(set(table.frames_sha256)) == len(table.frames) >= FEWEST
    assert (SHIPPED / f"{model}-camvid.json").stat().st_size < LARGEST_BYTES
