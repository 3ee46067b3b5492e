"""Signatures of engines and bundles: ed25519 by `cryptography`, made and asked for only where a user says so.

An engine's is over its manifest, which holds the sha256 of the engine; a bundle's over its list of sums. It is 64 bytes
in a file beside, and `openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in FILE -sigfile FILE.sig` takes it too.
"""

import argparse
from pathlib import Path
from typing import Any

from runtime.artifacts import write_atomically
from runtime.commands import install
from runtime.errors import EngineError, LibraryError, OutputError, PipelineError
from runtime.manifest import manifest_text
from runtime.spec import EngineManifest

SUFFIX = ".sig"
PRIVATE, PUBLIC = ".key", ".pub"


class KeyFileError(PipelineError):
    """A key that is missing, or is none of ed25519."""


def signature_path(engine: str | Path) -> Path:
    """Where the signature of an engine stands: `name.engine` -> `name.sig`."""
    return Path(engine).with_suffix(SUFFIX)


def write_keys(name: Path) -> tuple[Path, Path]:
    """A new pair of keys, `NAME.key` for who signs, readable by its owner alone, and `NAME.pub` for everyone else.

    Raises:
        OutputError: one of them is there already: nothing that it signed would be taken any more.
        LibraryError: cryptography is not installed.
    """
    ed25519, serialization = _library()
    if not name.name:
        raise KeyFileError(f"{name} is no name for a pair of keys; give one: streetseg keys NAME")
    private_path, public_path = name.with_name(name.name + PRIVATE), name.with_name(name.name + PUBLIC)
    for path in (private_path, public_path):
        if path.exists():
            raise OutputError(f"{path} is there already; give another name")
    key = ed25519.Ed25519PrivateKey.generate()
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        private_path.parent.mkdir(parents=True, exist_ok=True)
        private_path.touch(mode=0o600, exist_ok=False)
        private_path.write_bytes(secret)
        public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        write_atomically(public_path, public)
    except OSError as error:
        raise OutputError(f"{private_path} cannot be written ({error.strerror})") from None
    return private_path, public_path


def signature_of(data: bytes, key: Path) -> bytes:
    """The 64 bytes that sign some others.

    Args:
        key: a private key, as `write_keys` leaves it.

    Raises:
        KeyFileError: it is missing, or none.
        LibraryError: cryptography is not installed.
    """
    signed: bytes = _private_key(key).sign(data)
    return signed


def check_key(key: Path) -> None:
    """Raises KeyFileError or LibraryError: a key that could not sign, said before anything is built."""
    _private_key(key)


def sign_engine(engine: Path, manifest: EngineManifest, key: Path) -> None:
    """Write the signature of an engine beside it."""
    write_atomically(signature_path(engine), signature_of(manifest_text(manifest).encode(), key))


def refuse_unsigned(engine: str | Path, manifest: EngineManifest, public: str | Path) -> None:
    """Hold an engine's manifest, as it was read, to the signature beside it.

    Args:
        public: the public key of whom it must be signed by.

    Raises:
        EngineError: it is not signed, or by someone else, or was changed since.
        KeyFileError: the key is missing, or none.
        LibraryError: cryptography is not installed.
    """
    key, beside = _public_key(Path(public)), signature_path(engine)
    if not beside.is_file():
        raise EngineError(f"engine {engine} is not signed: there is no {beside.name} beside it; --sign KEY makes it")
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(beside.read_bytes(), manifest_text(manifest).encode())
    except InvalidSignature:
        raise EngineError(f"engine {engine} is not signed by {public}, or was changed since") from None


def add_require_signed(parser: argparse.ArgumentParser) -> None:
    """The option of commands that open engines."""
    what = "open an engine only if it was signed with the key that this one belongs to"
    parser.add_argument("--require-signed", type=Path, metavar="PUBKEY", help=what)


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise LibraryError(f"signatures need cryptography, which does not load ({error}): {install('sign')}") from None
    return ed25519, serialization


def _private_key(path: Path) -> Any:
    ed25519, serialization = _library()
    loaded = _loaded(path, "private", lambda data: serialization.load_pem_private_key(data, None))
    if not isinstance(loaded, ed25519.Ed25519PrivateKey):
        raise KeyFileError(f"{path} is no private key of ed25519; streetseg keys NAME makes a pair")
    return loaded


def _public_key(path: Path) -> Any:
    ed25519, serialization = _library()
    loaded = _loaded(path, "public", serialization.load_pem_public_key)
    if not isinstance(loaded, ed25519.Ed25519PublicKey):
        raise KeyFileError(f"{path} is no public key of ed25519; streetseg keys NAME makes a pair")
    return loaded


def _loaded(path: Path, kind: str, load: Any) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return load(path.read_bytes())
    except OSError as error:
        raise KeyFileError(f"the key {path} cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path} is no {kind} key without a password; streetseg keys NAME makes a pair") from None
