import pytest

from runtime.serve.asked import Asked, asked_from_query
from runtime.serve.replies import Refusal


def test_without_parameters_the_class_ids_are_asked_as_the_engine_fits_them():
    assert asked_from_query("", "") == Asked("ids", "", None, None, 0.5, "own", False)


def test_every_option_of_infer_that_concerns_a_picture_is_a_parameter():
    asked = asked_from_query("as=overlay&engine=a.b&fit=pad&void_below=85&alpha=0.25&colors=cityscapes", "")
    assert asked == Asked("overlay", "a.b", "pad", 85, 0.25, "cityscapes", False)


def test_the_parameter_as_goes_before_the_header():
    assert asked_from_query("as=runs", "image/png").form == "runs"


@pytest.mark.parametrize("query", ["as=confidence", "as=raw&confidence=1"])
def test_who_asks_for_a_confidence_gets_one_computed(query):
    assert asked_from_query(query, "").void_below == 0


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("fti=pad", "Did you mean fit?"),
        ("fit=squeeze", "stretch, pad, auto"),
        ("fit=", "stretch, pad, auto"),
        ("fit=pad&fit=auto", "twice"),
        ("void_below=256", "0 to 255"),
        ("quality=0", "1 to 100"),
        ("alpha=2", "0 to 1"),
        ("alpha=nan", "0 to 1"),
        ("confidence=yes", "0, 1"),
        ("confidence=1", "raw"),
        ("as=webp", "overlay"),
        ("&".join(f"a{i}=1" for i in range(30)), "more than 20"),
    ],
)
def test_a_parameter_that_is_none_is_one_line(query, said):
    with pytest.raises(Refusal, match=said) as caught:
        asked_from_query(query, "")
    assert caught.value.status == 400 and "\n" not in str(caught.value)
