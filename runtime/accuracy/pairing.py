"""Which label belongs to which frame: by their names, as the tools that wrote them give them."""

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

from runtime.errors import DatasetError
from runtime.media.frames import EXTENSIONS
from runtime.texts import shown

Images = dict[str, Path]  # the path below their folder, without its extension -> the file
# What tools put behind a frame's name: CamVid's _L, labelme's _label, Supervisely's, Carvana's, Kaggle's.
LABEL_SUFFIX = re.compile(
    r"[_.-](masks?|labels?|l|gt|seg|segm|segmentation|annot|annotations?|ann|ids?|trainids|labelids|labeltrainids)$",
    re.I,
)
FRAME_SUFFIX = re.compile(r"[_.-](image|img|frame|rgb|sat|leftimg8bit)$", re.I)
OF_A_TASK = re.compile(r"task-\d+-annotation-\d+-by-.*\.png$")  # Label Studio: a file for each task and tag
DRAWN = ".json"
NOT_OURS = "__MACOSX"  # what macOS puts beside the files of an archive


def images_below(folder: Path, but: Path | None = None) -> Images:
    """The pictures of a folder and of those in it; what is hidden, and what is below `but`, is left alone.

    Raises:
        DatasetError: there is no such folder, or two pictures differ in their extension alone.
    """
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {shown(folder)}")
    found: Images = {}
    inside = but if but and but != folder and but.is_relative_to(folder) else None
    for path in pictures_below(folder):
        if not (inside and path.is_relative_to(inside)):
            key = path.relative_to(folder).with_suffix("").as_posix()
            if key in found:
                raise DatasetError(f"{shown(path)} and {found[key].name} are two images of one name; keep one")
            found[key] = path
    return found


def drawn_below(folder: Path) -> Images:
    """The JSON files of a folder and of those in it, as `images_below`: labels of labelme and Supervisely."""
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in pictures_below(folder, {DRAWN})}


def pictures_below(folder: Path, kinds: Collection[str] = EXTENSIONS) -> list[Path]:
    """Every file that is a picture by its name, in order; hidden ones aside. Linked folders are entered, once each."""
    found, entered = [], set()
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "." and name != NOT_OURS]
        real = Path(where).resolve()
        if real in entered:
            folders.clear()
        else:
            entered.add(real)
            found += [Path(where, name) for name in files if _is_of(name, kinds) and Path(where, name).is_file()]
    return sorted(found)


def _is_of(name: str, kinds: Collection[str]) -> bool:
    return name[0] != "." and Path(name).suffix.lower() in kinds


def pairs_in(frames: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Each frame with its label, in the order of the frames' paths.

    A label has the name of its frame; or that with a suffix (`_mask`, `_L`), or behind the frame's whole name
    (`x.jpg.png`); or either in other capitals. In one folder a label is told by its suffix. Where no picture is a
    label, JSON files are.

    Raises:
        DatasetError: a frame has no label, or a label no frame.
    """
    if frames.resolve() == labels.resolve():
        apart = _apart(images_below(frames))
        return matched(apart[0], apart[1] or drawn_below(frames))
    if labels.is_dir() and not pictures_below(labels):
        return matched(images_below(frames, but=labels), drawn_below(labels))
    return matched(images_below(frames, but=labels), images_below(labels, but=frames))


def matched(frames: Images, labels: Images) -> list[tuple[Path, Path]]:
    """The same of pictures that were found already.

    Raises:
        DatasetError: a frame has no label, or a label no frame.
    """
    found = {key: labels[key] for key in frames.keys() & labels.keys()}
    lone, left = ({k: v for k, v in images.items() if k not in found} for images in (frames, labels))
    for of_frame, of_label in _RULES:
        ours, theirs = _unique(lone, of_frame), _unique(left, of_label)
        for name in ours.keys() & theirs.keys():
            found[ours[name]] = left.pop(theirs[name])
            del lone[ours[name]]
    alone = sorted([*((path, "label") for path in lone.values()), *((path, "frame") for path in left.values())])
    if alone:
        path, other = next((each for each in alone if OF_A_TASK.match(each[0].name)), alone[0])
        if OF_A_TASK.match(path.name):
            raise DatasetError(
                f"{shown(path)} is of Label Studio's PNG export, which tells no frame's name: export JSON"
            )
        raise DatasetError(f"{shown(path)} has no {other} of the same name; {len(alone)} files are unpaired")
    return [(frames[key], found[key]) for key in sorted(frames)]


def _unique(images: Images, named: Callable[[str, Path], str]) -> dict[str, str]:
    # name by a rule -> key; a name that two have is nobody's
    names = [(named(key, path), key) for key, path in images.items()]
    counts: dict[str, int] = {}
    for name, _ in names:
        counts[name] = counts.get(name, 0) + 1
    return {name: key for name, key in names if counts[name] == 1}


def _apart(images: Images) -> tuple[Images, Images]:
    bases = {FRAME_SUFFIX.sub("", key) for key in images if not LABEL_SUFFIX.search(key)}
    labels = {key: path for key, path in images.items() if LABEL_SUFFIX.sub("", key) in bases - {key}}
    return {key: path for key, path in images.items() if key not in labels}, labels


def _key(key: str, _: Path) -> str:
    return key


def _whole(key: str, path: Path) -> str:
    return f"{key}{path.suffix}"


def _bare_label(key: str, _: Path) -> str:
    return LABEL_SUFFIX.sub("", key)


def _bare_frame(key: str, _: Path) -> str:
    return FRAME_SUFFIX.sub("", key)


def _as_label(key: str, _: Path) -> str:
    return key.replace("_camera_", "_label_")  # of A2D2


def _folded(rule: Callable[[str, Path], str]) -> Callable[[str, Path], str]:
    return lambda key, path: rule(key, path).casefold()


# How a frame is named, and how its label is, rule after rule.
_RULES = (
    (_whole, _key),
    (_key, _bare_label),
    (_bare_frame, _bare_label),
    (_as_label, _key),
    (_folded(_whole), _folded(_key)),
    (_folded(_bare_frame), _folded(_bare_label)),
)
