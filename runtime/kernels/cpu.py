"""Pre- and post-processing on the CPU: the arithmetic of `runtime.reference`, compiled, on all cores, bit for bit.

The loops are in `loops.py` and the modules named after it. Without numba, which compiles them, the definitions in NumPy
do the work, many times slower, and say so once.
"""

import importlib
import threading
from dataclasses import replace
from functools import cache
from types import ModuleType

import numpy as np

from runtime import doubling, reference
from runtime.bars import say
from runtime.fit import Span, box_of
from runtime.forks import hold
from runtime.kernels.bands import in_bands
from runtime.kernels.copies import contiguous
from runtime.kernels.loops import Cells
from runtime.kernels.tile_loops import TILE
from runtime.spec import ModelSpec, Preprocess, Upsample
from runtime.threads import count

LOADED = 4  # logits a side, of the frame that loads the loops
WORK = {
    "loops": "pre- and post-processing run in NumPy, slowly",
    "frame_loops": "frames are resized and blended in NumPy, slowly",
    "tile_loops": "logits in blocks are labelled as float32, more slowly",
    "confidence": "confidences are computed in NumPy, slowly",
}
_ONCE = threading.Lock()
hold(_ONCE)


class FrameResizer:
    """Frames to a network's size as uint8; one frame size at a time is prepared, and kept."""

    def __init__(self, preprocess: Preprocess) -> None:
        self._threads = count()
        self._preprocess, self._size = preprocess, (preprocess.height, preprocess.width)
        self._shape: tuple[int, ...] = ()
        _loops("frame_loops")  # a second where nothing is kept: at the opening, not in the first frame

    def refit(self, preprocess: Preprocess) -> None:
        """The next frames lie as this one's fit says; the network's size is the same."""
        self._preprocess, self._shape = preprocess, ()

    def resize(self, frame: np.ndarray) -> np.ndarray:
        """`reference.fit_frame`.

        Args:
            frame: uint8 (H, W, 3).

        Returns:
            uint8 (height, width, 3): the frame itself where it has that size and is contiguous, else a buffer that the
            next call overwrites.
        """
        if frame.shape[:2] == self._size:
            return contiguous(frame)
        loops = _loops("frame_loops")
        if loops is None:
            return reference.fit_frame(frame, self._preprocess)
        if frame.shape != self._shape:
            self._prepare(frame.shape)
        frame = contiguous(frame)
        rows = len(self._boxed)
        tables = (*self._tables, self._lines)
        in_bands(self._threads, rows, loops.resize_rows, _flat(frame), *tables, _flat(self._boxed))
        if self._boxed is not self._inside:
            self._inside[:] = self._boxed
        return self._resized

    def _prepare(self, shape: tuple[int, ...]) -> None:
        (top, height, _), (left, width, _) = box_of(self._preprocess, *shape[:2])
        self._shape = shape
        self._tables = (*reference.axis_table(shape[0], height), *_table_of_values(shape[1], width))
        self._lines = np.empty((self._threads, 2, width * 3), np.float32)
        self._resized = np.empty((*self._size, 3), np.uint8)
        self._resized[:] = reference.border(self._preprocess)
        self._inside = self._resized[top : top + height, left : left + width]
        # The loops write whole rows, which those between two borders are not.
        self._boxed = self._inside if self._inside.flags.c_contiguous else np.empty(self._inside.shape, np.uint8)


class Segmenter:
    """Logits to masks; the tables and the working memory of one size are kept."""

    def __init__(self, spec: ModelSpec, *, halved: bool = False) -> None:
        """Of an engine of that spec.

        Args:
            spec: what its logits mean.
            halved: they come as they are before `runtime.doubling.doubled`, which is done here; never in blocks.
        """
        self._threads, self._halved = count(), halved
        self._spec, self._block, self._upsample = spec, spec.block, spec.upsample
        self._key: tuple[object, ...] = ()

    def refit(self, spec: ModelSpec) -> None:
        """The next frames lay as this one's fit says; else it is the same."""
        self._spec, self._key = spec, ()

    def segment(self, logits: np.ndarray, height: int, width: int, out: np.ndarray | None = None) -> np.ndarray:
        """`reference.postprocess` for logits that have their channels last.

        Args:
            logits: float32 (h, w, classes * block**2), contiguous; or uint16, the bits of bfloat16 ones.
            height, width: of the frame.
            out: uint8 (height, width), written; None: a new array.

        Returns:
            uint8 (height, width): `out`, or a new array.
        """
        mask = out if out is not None and out.flags.c_contiguous else np.empty((height, width), np.uint8)
        made = self._made(logits, height, width, mask)
        if out is None or made is out:
            return made
        np.copyto(out, made)
        return out

    def confidence(self, logits: np.ndarray, height: int, width: int, out: np.ndarray | None = None) -> np.ndarray:
        """`reference.confidence`, of what `segment` takes.

        Returns:
            uint8 (height, width): `out`, or a new array.
        """
        values = self.doubled(logits)
        loops = _loops("confidence")
        if loops is None:
            made = reference.segment_confidence(values.transpose(2, 0, 1)[None], self._spec, (height, width))
        else:
            made = np.empty((height, width), np.uint8)
            self._confide(loops, values, made)
        if out is None:
            return made
        np.copyto(out, made)
        return out

    def doubled(self, logits: np.ndarray) -> np.ndarray:
        """All logits that `segment` makes a mask of; float32 (h, w, C)."""
        values = float_from_bits(logits) if logits.dtype == np.uint16 else logits
        if not self._halved:
            return values
        loops, (h, w, classes) = compiled_loops(), values.shape
        if loops is None:
            return np.ascontiguousarray(doubling.doubled(values.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0))
        made, lines = np.empty((2 * h, 2 * w, classes), np.float32), np.empty((self._threads, w * classes), np.float32)
        in_bands(self._threads, 2 * h, loops.double_rows, _flat(np.ascontiguousarray(values)), lines, made)
        return made

    def _confide(self, loops: ModuleType, logits: np.ndarray, confidence: np.ndarray) -> None:
        (h, w), classes = (side * self._block for side in logits.shape[:2]), logits.shape[2] // self._block**2
        box, block = box_of(self._spec.preprocess, *confidence.shape), self._block
        steps = reference.CONFIDENCE_STEPS, loops.first_of_bins(reference.CONFIDENCE_STEPS)
        if box.is_whole and confidence.shape == (h, w):
            in_bands(self._threads, h, loops.confident_pixels, logits, block, *steps, confidence)
            return
        axes = zip((h, w), confidence.shape, box, strict=True)
        cells = [Cells(*cell_table(*axis, self._upsample)) for axis in axes]
        scratch = np.empty((self._threads, 4, classes), np.float32), np.empty((self._threads, classes), np.uintp)
        in_bands(self._threads, h, loops.confident_cells, logits, block, *cells, *steps, *scratch, confidence)

    def _made(self, logits: np.ndarray, height: int, width: int, mask: np.ndarray) -> np.ndarray:
        # The mask, in `mask` where the loops are compiled.
        loops = compiled_loops()
        if loops is None:
            return reference.segment(self.doubled(logits).transpose(2, 0, 1)[None], self._spec, (height, width))
        logits, pairs = self._compilable(logits)
        self._prepare(loops, logits, 2 if pairs or self._halved else 1, height, width)
        threads, rows = self._threads, len(logits)
        if self._labels.shape == mask.shape and self._is_whole:
            self._label(loops, self.doubled(logits) if self._halved else logits, mask, pairs=pairs)
        elif self._halved:
            loop = loops.mask_doubled_bf16 if logits.dtype == np.uint16 else loops.mask_doubled
            in_bands(threads, 2 * rows, loop, _flat(logits), *self._between, self._doubling, mask)
        elif logits.dtype == np.uint16:
            loop = loops.mask_pairs_bf16 if pairs else loops.mask_pixels_bf16
            in_bands(threads, rows, loop, _flat(logits), *self._between, mask)
        else:
            in_bands(threads, rows, loops.mask_pairs if pairs else loops.mask_pixels, logits, *self._between, mask)
        return mask

    def _compilable(self, logits: np.ndarray) -> tuple[np.ndarray, bool]:
        # Loops are written for pixels and for blocks of 2: other logits become pixels, in float32.
        if self._block <= 2:
            return np.ascontiguousarray(logits), self._block == 2
        values = float_from_bits(logits) if logits.dtype == np.uint16 else logits
        values = reference.unblock(values.transpose(2, 0, 1)[None], self._block)[0].transpose(1, 2, 0)
        return np.ascontiguousarray(values), False

    def _prepare(self, loops: ModuleType, logits: np.ndarray, block: int, height: int, width: int) -> None:
        key = (logits.shape, logits.dtype, height, width)
        if key == self._key:
            return
        self._key = key
        h, w = logits.shape[0] * block, logits.shape[1] * block
        classes = logits.shape[2] if self._halved else logits.shape[2] // block**2
        self._labels = np.empty((h, w), np.uint8)
        bands = self._threads
        if self._halved:
            wide = np.empty((bands, 2, logits[0].size), np.float32)
            line, held = np.empty((bands, logits[0].size), np.float32), np.empty((bands, 2), np.int64)
            doubled = np.empty((bands, 2, w, classes), np.float32)
            self._doubling = loops.Doubling(doubled, line, wide, wide.view(np.uint32), held)
        rows = np.empty((bands, 2, *(logits.shape[1:] if logits.dtype == np.uint16 else (0, 0))), np.float32)
        lists = [np.empty((bands, n), kind) for n, kind in ((w, np.uint8), (w, np.int32), (classes, np.uintp))]
        tiles, largest = np.empty((bands, classes, 4 * TILE), np.int16), (bands, 4 * TILE)
        self._tiles = (tiles, tiles.view(np.uint64), np.empty(largest, np.int16), np.empty(largest, np.int16))
        corners = np.empty((bands, 4, classes), np.float32)
        scratch = loops.Scratch(*lists, corners, rows, rows.view(np.uint32).reshape(bands, 2, -1))
        box = box_of(self._spec.preprocess, height, width)
        self._is_whole = box.is_whole
        axes = ((h, height, box.down), (w, width, box.across))
        cells = [loops.Cells(*cell_table(*axis, self._upsample)) for axis in axes]
        self._between = (self._labels, *cells, scratch)

    def _label(self, loops: ModuleType, logits: np.ndarray, mask: np.ndarray, *, pairs: bool) -> None:
        tiles = _loops("tile_loops") if logits.dtype == np.uint16 and pairs else None
        if tiles:
            quads = logits.view(np.uint64)  # the four logits of a block and a class in each
            in_bands(self._threads, len(logits), tiles.label_tiles, quads, *self._tiles, mask)
        elif logits.dtype == np.uint16 and not pairs:
            scratch = self._between[-1]
            rows = scratch.rows, scratch.row_bits
            in_bands(self._threads, len(logits), loops.label_pixels_bf16, _flat(logits), *rows, mask)
        else:
            values = float_from_bits(logits) if logits.dtype == np.uint16 else logits
            in_bands(self._threads, len(values), loops.label_pairs if pairs else loops.label_pixels, values, mask)


def load_loops(spec: ModelSpec, *, halved: bool = False) -> None:
    """Read from disk the machine code that a frame of another size and its mask need, as the first frame would.

    `halved` is as `Segmenter` takes it.

    It takes about as long as an engine's compilation, which leaves Python alone: done beside it, it costs nothing.
    """
    if compiled_loops() is None:
        return
    side = LOADED * spec.output_stride * spec.block
    small = replace(spec, preprocess=replace(spec.preprocess, height=side, width=side))
    FrameResizer(small.preprocess).resize(np.zeros((side + 1, side + 1, 3), np.uint8))
    shape = (LOADED, LOADED, len(spec.classes) * spec.block**2)
    # Logits may come as bfloat16's bits, which have loops of their own.
    for kind in (np.float32, np.uint16) if spec.block <= 2 else (np.float32,):
        for pixels in (side, side + 1):  # of the network's own size, and of another
            Segmenter(small, halved=halved).segment(np.zeros(shape, kind), pixels, pixels)


def overlay(frame: np.ndarray, mask: np.ndarray, palette: np.ndarray, alpha: float) -> np.ndarray:
    """`reference.overlay`, compiled, on the thread that calls: while it runs, others segment the next frame."""
    loops = _loops("frame_loops")
    if loops is None:
        return reference.overlay(frame, mask, palette, alpha)
    blended, line = np.empty(frame.shape, np.uint8), np.empty(frame[0].size, np.uint16)
    frame, mask = contiguous(frame), np.ascontiguousarray(mask)
    loops.overlay_rows(_flat(frame), mask, *reference.overlay_shades(palette, alpha), line, _flat(blended))
    return blended


def _flat(rows: np.ndarray) -> np.ndarray:
    # A view of one dimension a row: in a loop it is numba's own that makes one.
    return rows.reshape(len(rows), -1)


def float_from_bits(bits: np.ndarray) -> np.ndarray:
    """bfloat16 values, as their bits in uint16, as float32 of the same shape."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def cell_table(
    n_in: int, n_out: int, span: Span, upsample: Upsample = "half_pixel"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`reference.cut_table` grouped by cell, the space from one input sample to the next.

    Returns:
        starts: int32 (n_in + 1,), cell i holds the outputs starts[i] to starts[i + 1].
        weight_first, weight_second: float32 (n_out,).
    """
    table = reference.cut_table(n_in, n_out, span, upsample)
    starts = np.searchsorted(table.first, np.arange(n_in + 1)).astype(np.int32)
    return starts, table.weight_first, table.weight_second


def _table_of_values(n_in: int, n_out: int) -> tuple[np.ndarray, ...]:
    # `reference.axis_table` for rows of three values a pixel: where each output's samples lie, and their weights.
    table = reference.axis_table(n_in, n_out)
    samples = [(index[:, None] * 3 + np.arange(3)).ravel().astype(np.uintp) for index in (table.first, table.second)]
    return (*samples, *(np.repeat(weight, 3) for weight in (table.weight_first, table.weight_second)))


def compiled_loops() -> ModuleType | None:
    """`runtime.kernels.loops`, or None where numba is not installed, which is said once on stderr."""
    return _loops("loops")


def _loops(name: str) -> ModuleType | None:
    # A module of loops; none of them where those for masks are not compiled.
    with _ONCE:  # two lanes may ask for it at the same time, and numba refuses what is compiled already
        return _compiled(name) if _compiled("loops") else None


@cache
def _compiled(name: str) -> ModuleType | None:
    from runtime.kernels.kept import compile_all

    module = importlib.import_module(f"runtime.kernels.{name}")
    try:
        compile_all(vars(module), module.LOOPS)
    except ImportError as error:
        say(f"numba does not load ({error}): {WORK[name]}")
        return None
    return module
