"""A new engine in the place of one that is served: loaded and proven first; what is refused changes nothing."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runtime.cli import log
from runtime.errors import PipelineError
from runtime.json_values import told, values_from_json
from runtime.manifest import read_manifest
from runtime.serve.engines import Engines, Named, Opening, Served, proven, refuse_other_classes
from runtime.serve.pools import in_thread
from runtime.serve.replies import Refusal
from runtime.texts import shown

FORM = '{"path": "FILE"}, and "name" where several engines are served'


class Swapper:
    """Replaces engines, one at a time. For the thread of the event loop alone."""

    def __init__(self, engines: Engines, opening: Opening) -> None:
        """Of these engines; a new one is opened in the same way, with as many lanes as the old one has."""
        self._engines, self._opening = engines, opening
        self._pool = ThreadPoolExecutor(1, "engine")
        self._going: asyncio.Task[dict[str, Any]] | None = None

    async def replace(self, name: str, path: Path | None) -> dict[str, Any]:
        """Load and prove an engine, and serve it; it goes on though who asked leaves.

        Args:
            name: of the one that is served; "": the first.
            path: of the new one, within the folder of one that is served; None: where the old one lay.

        Returns:
            JSON values: its name, whether it is another one, and the sha256 of both.

        Raises:
            Refusal: 404 no such name, 403 elsewhere, 409 another is being loaded, 422 it is refused: why.
        """
        old = self._engines.find(name)
        if self._going is not None and not self._going.done():
            raise Refusal(409, "busy", "another engine is being loaded: try again")
        named = Named(old.name, self._allowed(old, path))
        self._going = asyncio.ensure_future(self._replaced(old, named))
        self._going.add_done_callback(_looked_at)
        return await asyncio.shield(self._going)

    async def reload(self) -> None:
        """Look again where each engine lies, and serve what lies there now; what was done is logged."""
        for name in [served.name for served in self._engines]:
            try:
                done = await self.replace(name, None)
            except Refusal as refusal:
                log(f"engine {name} is served on as it is: {refusal}")
            else:
                log(f"engine {name}: {done['engine_sha256'][:12]}" + (", new" if done["changed"] else ", as before"))

    def close(self) -> None:
        """Wait for what is being loaded."""
        self._pool.shutdown(cancel_futures=True)

    async def _replaced(self, old: Served, named: Named) -> dict[str, Any]:
        done = {"name": named.name, "replaced_sha256": old.manifest.engine_sha256}
        try:
            new = (await in_thread(self._pool, self._loaded, old, named)).value
        except PipelineError as error:
            raise Refusal(422, "engine", str(error)) from error
        if new is None:
            return {**done, "changed": False, "engine_sha256": old.manifest.engine_sha256}
        self._engines.put(new)
        log(f"engine {named.name} is now {shown(named.path)}, {new.manifest.engine_sha256[:12]}")
        return {**done, "changed": True, "engine_sha256": new.manifest.engine_sha256}

    def _loaded(self, old: Served, named: Named) -> Served | None:
        # None: it is the one that is served.
        manifest = read_manifest(named.path)
        if manifest == old.manifest:
            return None
        refuse_other_classes(old.spec, manifest.spec)
        return proven(named, self._opening._replace(lanes=old.lanes.count))

    def _allowed(self, old: Served, path: Path | None) -> Path:
        # Whoever has the token chooses among engines that were put there, not among all files of the machine.
        if path is None:
            return old.path
        whole = (old.path.parent / path).resolve()
        folders = {served.path.parent.resolve() for served in self._engines}
        if whole.parent not in folders:
            raise Refusal(403, "engine", f"{shown(path)} is not in the folder of an engine that is served")
        return whole


def _looked_at(going: "asyncio.Task[dict[str, Any]]") -> None:
    # Where who asked has left, nobody else hears why it was refused.
    if not going.cancelled() and (error := going.exception()):
        log(f"no new engine: {error}")


def swap_from_body(body: bytes) -> tuple[str, Path | None]:
    """What `POST /engine` asks: a name, "" for the first, and a path, None for the same.

    Raises:
        Refusal: 400, it is something else.
    """
    try:
        fields = values_from_json(body or b"{}")
    except ValueError as error:
        raise Refusal(400, "engine", f"the body is no JSON ({error}), expected {FORM}") from None
    values = list(fields.values()) if isinstance(fields, dict) and set(fields) <= {"name", "path"} else [None]
    if not all(isinstance(value, str) and value and "\0" not in value for value in values):
        raise Refusal(400, "engine", f"the body is {told(fields)}, expected {FORM}")
    return fields.get("name", ""), Path(fields["path"]) if "path" in fields else None
