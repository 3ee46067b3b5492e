import json

import pytest

from export.adopting.options import Given
from runtime.measure.bench.tables import between_marks
from tests.adopted_table import MARK, as_markdown, asked_beside
from tests.helpers.project import ROOT

FIGURES, PAGE = ROOT / "figures" / "adopted.json", ROOT / "docs" / "any-onnx.md"


def test_the_pages_table_is_that_of_the_figures():
    text = PAGE.read_text()
    assert between_marks(text, MARK, as_markdown(json.loads(FIGURES.read_text()))) == text


@pytest.mark.parametrize(
    ("beside", "size", "given"),
    [
        ({"preprocess": "imagenet", "size": "64x128"}, (64, 128), Given("imagenet")),
        (
            {"preprocess": {"resize_to": [8, 16], "inside_graph": True, "channel_order": "BGR"}},
            (8, 16), Given(order="BGR"),
        ),
        (
            {"preprocess": {"resize_to": [8, 16], "inside_graph": False, "channel_order": "RGB", "scale": 0.5,
                            "mean": [1, 2, 3], "std": [4, 5, 6]}},
            (8, 16), Given(None, 0.5, (1, 2, 3), (4, 5, 6), "RGB"),
        ),
    ],
)  # fmt: skip
def test_how_a_file_is_taken_stands_beside_it(tmp_path, beside, size, given):
    (tmp_path / "net.json").write_text(json.dumps(beside))
    asked = asked_beside(tmp_path / "net.onnx")
    assert (asked.size, asked.given) == (size, given)
