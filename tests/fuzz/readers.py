"""Every reader of the product with small valid files: what is spoilt, and who reads it."""

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.fuzz.mutations import mutated, mutated_json

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "figures"
FRAMES_READ = 8


class Reader(NamedTuple):
    """What is read: file names with their valid bytes, how they are spoilt, and who reads the path."""

    samples: dict[str, bytes]
    read: Callable[[Path], object]
    spoil: Callable[..., bytes] = mutated


def readers(folder: Path) -> dict[str, Reader]:
    """All of them.

    Args:
        folder: empty; for the files that are made.
    """
    return {
        "pictures": _pictures(), "other pictures": _other_pictures(), "labels": _labels(),
        "videos": _videos(folder), "checkpoints": _checkpoints(folder),
        "graphs": _graphs(), "tables": _tables(), "classes.json": _classes(),
        "drawn labels": _drawn(), "requests": _requests(), "queries": _queries(), **_documents(), **_engines(folder),
    }  # fmt: skip


def _pictures() -> Reader:
    from runtime.media.frames import read_frame
    from tests.helpers.pictures import encoded, exif, gradient, lossless, tiff_directory_first, with_exif

    rgb = gradient(32, 64)
    samples = {f"a{kind}": encoded(kind, rgb) for kind in (".png", ".jpg", ".webp", ".bmp", ".tiff")}
    samples |= {"b.tif": tiff_directory_first(rgb), "b.jpg": with_exif(encoded(".jpg", rgb), 6), "b.webp": exif(3)}
    return Reader(samples | {"c.png": lossless(".png", rgb[..., 0])}, read_frame)


def _other_pictures() -> Reader:
    import pillow_heif
    from PIL import Image

    from runtime.media.frames import read_frame
    from tests.helpers.pictures import gradient
    from tests.helpers.tiffs import icc, tiff

    rgb, wide = gradient(32, 64), icc([(0.68, 0.32), (0.265, 0.69), (0.15, 0.06)], 2.2)
    image, samples = Image.fromarray(rgb), {}
    kinds = {"a.avif": "AVIF", "a.jp2": "JPEG2000", "a.gif": "GIF", "a.ppm": "PPM"}
    profiles = {"p.png": "PNG", "p.jpg": "JPEG", "p.webp": "WEBP", "p.tif": "TIFF"}
    for name, kind in (kinds | profiles).items():
        image.save(buffer := io.BytesIO(), kind, **({"icc_profile": wide} if name in profiles else {}))
        samples[name] = buffer.getvalue()
    pillow_heif.from_pillow(image).save(buffer := io.BytesIO())
    samples["a.heic"] = buffer.getvalue()
    deep = rgb.astype(np.uint16) * 257
    samples |= {
        "planes.tif": tiff(deep, 2, separate=True),
        "big.tif": tiff(rgb, 2, big=True),
        "zip.tif": tiff(deep, 2, deflate=True),
    }
    return Reader(samples, read_frame)


def _requests() -> Reader:
    from runtime.serve.bodies import frame_from_body
    from runtime.serve.swap import swap_from_body
    from runtime.serve.v2 import inference_from_body
    from tests.helpers.fake_backend import SPEC
    from tests.helpers.pictures import gradient, lossless

    frame = gradient(16, 20)
    tensor = {"name": "frame", "datatype": "UINT8", "shape": list(frame.shape)}
    plain = {"id": "a", "inputs": [tensor | {"data": frame.tolist()}], "outputs": [{"name": "mask"}]}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": frame.size}}]}).encode()

    def read(path: Path) -> object:
        body = path.read_bytes()
        if path.suffix == ".v2":
            return inference_from_body(body, None if body[-1:] == b"}" else str(len(head)), SPEC)
        return swap_from_body(body) if path.suffix == ".json" else frame_from_body(body, {})

    samples = {"a.v2": json.dumps(plain).encode(), "b.v2": head + frame.tobytes()}
    return Reader(samples | {"c.json": b'{"name": "a", "path": "x.engine"}', "d.png": lossless(".png", frame)}, read)


def _queries() -> Reader:
    from runtime.serve.asked import asked_from_query

    query = b"as=overlay&engine=a.b&fit=pad&void_below=85&alpha=0.25\ntext/html, image/png;as=overlay;q=0.5, */*;q=0.1"

    def read(path: Path) -> object:
        query, _, accept = path.read_bytes().decode("latin-1").partition("\n")
        return asked_from_query(query.removeprefix("as=overlay&"), accept)

    return Reader({"a.txt": query}, read)


def _labels() -> Reader:
    from runtime.accuracy.cityscapes import cityscapes_table
    from runtime.accuracy.datasets import read_label
    from tests.helpers.pictures import lossless

    ids = (np.arange(32 * 64).reshape(32, 64) % 20).astype(np.uint8)
    samples = {f"a{kind}": lossless(kind, ids) for kind in (".png", ".tiff", ".bmp")}
    samples["b.png"] = lossless(".png", np.stack([ids] * 3, -1))
    colors = {(i, i, i): i for i in range(20)}
    return Reader(samples, lambda path: read_label(path, cityscapes_table(), colors))


def _videos(folder: Path) -> Reader:
    from itertools import islice

    from runtime.media.video import VideoReader
    from tests.helpers.pictures import encoded, gradient
    from tests.helpers.videos import moving, write_video

    frames = moving(4, (32, 64))
    paths = [write_video(folder / f"a{kind}", frames) for kind in (".mp4", ".mkv", ".avi", ".ts")]
    codecs = {
        "hevc.mp4": "libx265", "vp9.webm": "libvpx-vp9", "ffv1.mkv": "ffv1", "mjpeg.avi": "mjpeg", "a.mjpeg": "mjpeg",
        "mpeg4.avi": "mpeg4", "mpeg2.mkv": "mpeg2video", "a.gif": "gif", "av1.mkv": "libsvtav1",
    }  # fmt: skip
    forms = {"mjpeg": "yuvj420p", "gif": "rgb8"}
    for name, codec in codecs.items():
        form = forms.get(codec, "yuv420p")
        extra = {"x265-params": "log-level=none"} if codec == "libx265" else None
        paths.append(write_video(folder / name, frames, codec=codec, pix_fmt=form, extra=extra))
    samples = {path.name: path.read_bytes() for path in paths} | {"b.mp4": encoded(".png", gradient(32, 64))}

    def read(path: Path) -> None:
        with VideoReader(path) as reader:
            for _ in islice(iter(reader.read, None), FRAMES_READ):
                if reader._found.gi_frame is None:
                    return

    return Reader(samples, read)


def _checkpoints(folder: Path) -> Reader:
    import torch
    from safetensors.torch import save

    from export.checkpoints.weights import read_weights
    from tests.helpers.caffe_bytes import published

    array = np.arange(12, dtype=np.float32).reshape(3, 2, 2, 1)
    layers = {"conv1": {"weights": array, "biases": np.zeros(3, np.float32)}}
    tensors = {"a.weight": torch.from_numpy(array), "b": torch.zeros(3, dtype=torch.float16)}
    samples = {
        "a.safetensors": save(tensors, {"classes": '[["a", [1, 2, 3]]]', "model": "enet", "pruned": "[]"}),
        "a.caffemodel": published(layers),
        "a.pkl": pickle.dumps(layers),
    }
    for name, content in (("a.pth", tensors), ("b.pth", {"state_dict": tensors, "epoch": 3})):
        for suffix, modern in (("", True), ("-old", False)):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=modern)
            samples[name.replace(".", f"{suffix}.")] = buffer.getvalue()
    for name, write in (("a.npy", lambda file: np.save(file, np.array(layers, object), allow_pickle=True)),
                        ("a.npz", lambda file: np.savez(file, **layers["conv1"]))):  # fmt: skip
        buffer = io.BytesIO()
        write(buffer)
        samples[name] = buffer.getvalue()
    return Reader(samples, read_weights)


def _graphs() -> Reader:
    from calib.graphs import load_graph
    from engines.build import graph_precision, read_spec
    from engines.contract import refuse_other_contract
    from engines.onnxruntime_build import build
    from tests.helpers.graphs import tiny_graph

    def read(path: Path) -> None:
        onnx = path.read_bytes()
        spec, precision = read_spec(onnx), graph_precision(onnx)
        load_graph(path, precision)
        refuse_other_contract(onnx, spec)
        build(onnx, spec, precision, "onnxruntime")

    return Reader({f"{kind}.onnx": tiny_graph(None, kind) for kind in ("fp32", "fp16")}, read)


def _tables() -> Reader:
    from calib.table import CHECKSUM, SHIPPED, load_table, table_or_none

    whole = json.loads((SHIPPED / "enet-camvid.json").read_text())
    whole.pop(CHECKSUM, None)  # or nothing behind it would be reached
    names = list(whole["ranges"])[:3]
    small = whole | {"ranges": {name: whole["ranges"][name] for name in names}, "means": {}, "frames": ["a.png"]}

    def read(path: Path) -> None:
        table_or_none(path)
        load_table(path)

    return Reader({"table.json": json.dumps(small).encode()}, read, mutated_json)


def _classes() -> Reader:
    from runtime.accuracy.datasets import open_dataset

    classes = {"classes": [{"name": name, "color": [i, i, i]} for i, name in enumerate("abc")], "ignored": [254],
               "folders": {"val": ["frames", "labels"]}}  # fmt: skip
    return Reader(
        {"classes.json": json.dumps(classes).encode()}, lambda path: open_dataset("own", path.parent), mutated_json
    )


def _drawn() -> Reader:
    from runtime.accuracy.drawn import read_drawn

    shapes = [{"label": "a", "shape_type": kind, "points": [[1, 2], [9, 3], [5, 7]]} for kind in ("polygon", "circle")]
    labelme = {"shapes": shapes, "imageHeight": 16, "imageWidth": 32}
    points = {"exterior": [[0, 0], [9, 0], [9, 9]], "interior": []}
    drawn = {"classTitle": "a", "geometryType": "polygon", "points": points}
    supervisely = {"size": {"height": 16, "width": 32}, "objects": [drawn]}
    samples = {f"{i}.json": json.dumps(each).encode() for i, each in enumerate((labelme, supervisely))}
    return Reader(samples, lambda path: read_drawn(path, {"a": 0}), mutated_json)


def _documents() -> dict[str, Reader]:
    from runtime.measure.bench import files, report, tables
    from runtime.measure.documents import Gate, read
    from runtime.measure.gate.comparable import stored_mask, stored_times

    def gate(path: Path) -> None:
        document = read(path, Gate, "runtime.regress", 1)
        stored_mask(document)
        if "samples_ms" in document["candidate"]:
            stored_times(document)

    def bench(path: Path) -> None:
        document = tables.read_document(path)
        (tables.table([document]), tables.summary([document]), tables.as_text(document))
        report._bench_section(document, "this engine", "#000")

    evaluated = {"dataset": "camvid", "split": "val", "engines": [{"engine": "a", "frames": 3, "miou": 0.5}]}
    one = next(path for path in sorted((FIGURES / "earlier").glob("*.json")) if not path.name.startswith("bench"))
    return {
        "baselines": Reader({"gate.json": one.read_bytes()}, gate, mutated_json),
        "bench files": Reader({"bench.json": _first("bench-*.json")}, bench, mutated_json),
        "files files": Reader(
            {"files.json": _first("files-*.json")}, lambda path: files.table(files.read_document(path)), mutated_json
        ),
        "evaluations": Reader(
            {"evaluated.json": json.dumps(evaluated).encode()}, lambda path: report._accuracies([path]), mutated_json
        ),
    }


def _first(pattern: str) -> bytes:
    return min(FIGURES.glob(pattern)).read_bytes()


def _engines(folder: Path) -> dict[str, Reader]:
    from runtime.lanes import open_lanes
    from runtime.lookup import chosen_engine, found_engines
    from runtime.manifest import CHECKSUM, manifest_path, read_manifest
    from runtime.proof import expected_path, read_expected
    from tests.helpers.engines import built_engine

    engine = built_engine(folder)
    paths = {"engine": engine, "manifest": manifest_path(engine), "expected": expected_path(engine)}
    parts = {kind: path.read_bytes() for kind, path in paths.items()}
    manifest = json.loads(parts["manifest"])
    del manifest[CHECKSUM]
    beside = folder / "beside"
    beside.mkdir()
    built_engine(beside, seed=1)

    def whole(at: Path, but: str) -> Path:
        for kind, path in (("engine", at.with_suffix(".engine")), ("manifest", at.with_suffix(".json"))):
            if kind != but:
                path.write_bytes(parts[kind])
        return at.with_suffix(".engine")

    def read_beside(path: Path) -> None:
        odd = beside / "odd.engine"
        odd.write_bytes(b"x")
        odd.with_suffix(".json").write_bytes(path.read_bytes())
        found_engines(beside)
        chosen_engine(beside)  # the other one is there, whatever this one is
        read_manifest(whole(path, "manifest"))

    return {
        "manifests": Reader(
            {"a.json": parts["manifest"], "b.json": json.dumps(manifest).encode()}, read_beside, mutated_json
        ),
        "engines": Reader({"a.engine": parts["engine"]}, lambda path: open_lanes(whole(path, "engine"), 1).close()),
        "referee files": Reader({"a.referee.npz": parts["expected"]},
                                lambda path: read_expected(path.with_name("a.engine"))),
    }  # fmt: skip
