import pytest

from runtime.serve.accept import form_of
from runtime.serve.replies import Refusal


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "ids"),
        ("*/*", "ids"),
        ("image/png", "ids"),
        ("IMAGE/PNG", "ids"),
        ("image/*", "ids"),
        ("application/octet-stream", "raw"),
        ("application/json", "runs"),
        ("image/png;as=overlay", "overlay"),
        ('image/png; as="color"; q=0.5', "color"),
        ("image/png;as=confidence", "confidence"),
        ("image/jpeg;as=jpeg", "jpeg"),
        ("image/jpeg, image/png;q=0.5", "ids"),
        ("text/html, application/json;q=0.9, */*;q=0.1", "runs"),
        ("application/json;q=0.2, image/png;q=0.9", "ids"),
        ("application/json, image/png", "runs"),
        ("image/png;q=0, application/json;q=0.001", "runs"),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "ids"),  # Java's, where it is told nothing
        ("*/*;q=.5, application/json;q=0.6", "runs"),
    ],
)
def test_the_form_that_is_wanted_most_is_taken(accept, form):
    assert form_of(accept) == form


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "image/jpeg",
        "image/png;q=0",
        "image/png;as=nix",
        "image/png;q=2",
        "image/png;q=.",
        "image/png;q=",
        "application/json;as=overlay",
        ";",
    ],
)
def test_what_is_not_offered_is_refused_with_what_is(accept):
    with pytest.raises(Refusal, match="image/png, application/octet-stream, application/json") as caught:
        form_of(accept)
    assert caught.value.status == 406
