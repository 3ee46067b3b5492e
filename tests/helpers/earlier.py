"""Weights that were shipped before: figures of them may stand where the page says so."""

from export.checkpoints.sources import default_weights
from runtime.artifacts import sha256_of

EARLIER = {
    "icnet": (
        "48d1d08f5364d973495138b68b5bdd1804da5064ef129d7520c23ee69c711fd9",  # 68.05 mIoU natively
        "c99aeb53bce3a4cb85126e907585b4ebf865a0bb300e073d9748f768805126a1",  # 69.61
    ),
    "ddrnet23-slim": ("524fa430c1b729b999f3ced23774ec22c641092de4c217f68caabb3fd50ab3d2",),  # 71.64
    "fast-scnn": ("def0658ed009fcb03769159f6a27d09fb048fff83a2747ec22382baf6a053294",),  # 66.92
}
SAID = "earlier weights"


def are_shipped(model: str, sha256: str) -> bool:
    """Whether these are the weights that a network is shipped with."""
    shipped = default_weights(model)
    return shipped is not None and sha256 == sha256_of(shipped)


def are_earlier(model: str, sha256: str) -> bool:
    """Whether these are the network's weights of before; ICNet's branches have those of the whole."""
    return not are_shipped(model, sha256) and sha256 in EARLIER.get(model.partition("-sub")[0], ())


def may_stand(model: str, sha256: str, text: str) -> bool:
    """Whether figures of these weights may stand in `text`: of the shipped ones, or of ones before if it says so."""
    return are_shipped(model, sha256) or (are_earlier(model, sha256) and SAID in text)


def weights_told(model: str, sha256: str) -> str:
    """What a page of docs/ says of weights that are not the shipped ones; empty where they are."""
    if are_shipped(model, sha256):
        return ""
    return f"[{SAID}](history.md#trainings)" if are_earlier(model, sha256) else f"weights {sha256[:8]}"
