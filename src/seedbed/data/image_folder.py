"""A user's own pictures: train/<class>/*, valid/<class>/* and perhaps test/<class>/*; or <class>/* and a fraction."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from seedbed.data.decoding import decode
from seedbed.data.picture_file import ENDINGS
from seedbed.data.splits import Split, Splits

log = logging.getLogger(__name__)

VALID_NAMES = ("valid", "val", "validation")
LAYOUT = "data.root takes train/<class>/*.png and valid/<class>/*.png, or <class>/*.png"
HIDDEN = (".", "__MACOSX")  # .ipynb_checkpoints, .DS_Store, ._x.png: no name of a class or picture begins so


def image_folder(root: str, valid_fraction: float = 0.2, on_broken: str = "error") -> Splits:
    """Pictures below `root`, one folder a class; grey if all are grey, else RGB; all of one size.

    Without a folder valid/ (or val/, validation/), every k-th training picture of each class validates,
    k = 1/valid_fraction; without train/, the classes lie in `root` itself. Hidden files and folders are passed over.
    Pictures are decoded once and cached as a tensor, under a key made of the files' names, sizes and times.
    on_broken: `error` or `skip`, for pictures that `read_picture` refuses and for links out of `root`.
    Raises FileNotFoundError (no such folder, no picture in it) or ValueError (one class, a class that is not trained,
    a broken picture, sizes that differ).
    """
    if not root:
        raise ValueError(f"data.root={root if root == '' else 'null'}: give the folder of your pictures")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"data.root={root}: there is no such folder")
    pictures = {name: _pictures(path) for name, path in _parts(folder).items()}
    _check_classes(pictures, root)
    images, kept = decode([path for paths in pictures.values() for path in paths], folder, on_broken)
    if not all(kept):
        chosen = iter(kept)
        pictures = {name: [path for path in paths if next(chosen)] for name, paths in pictures.items()}
        _check_classes(pictures, root)
    classes = sorted({path.parent.name for path in pictures["train"]})
    number = {name: k for k, name in enumerate(classes)}
    targets = [torch.tensor([number[path.parent.name] for path in paths]) for paths in pictures.values()]
    parts = zip(images.split([len(y) for y in targets]), targets, strict=True)
    splits = dict(zip(pictures, parts, strict=True))
    if "valid" not in splits:
        splits |= _held_out(*splits["train"], valid_fraction)
    return Splits(splits["train"], splits["valid"], splits.get("test"), classes)


def _parts(root: Path) -> dict[str, Path]:
    """Return the folders of the splits: `train`, and `valid` and `test` where there are such."""
    valid = [name for name in VALID_NAMES if (root / name).is_dir()]
    if len(valid) > 1:
        raise ValueError(f"data.root={root}: holds {valid[0]}/ and {valid[1]}/; keep the one that validates")
    if not (root / "train").is_dir():
        return {"train": root}
    parts = {"train": root / "train"}
    if valid:
        parts["valid"] = root / valid[0]
    if (root / "test").is_dir():
        parts["test"] = root / "test"
    if others := [entry.name for entry in _visible(root) if entry.is_dir() and root / entry.name not in parts.values()]:
        log.warning("data.root=%s: passed over what is neither train/, valid/ nor test/: %s/", root, "/, ".join(others))
    return parts


def _pictures(folder: Path) -> list[Path]:
    """Return all pictures of folder/<class>/, classes and names in string order; log what is passed over."""
    pictures, others = [], Counter()
    for entry in _visible(folder):
        if not entry.is_dir():
            others["file beside the classes"] += 1
            continue
        if os.path.splitext(entry.name)[1].lower() in ENDINGS:
            raise ValueError(f"{entry.path} is a folder with the name of a picture: rename or remove it")
        for file in _visible(Path(entry.path)):
            if file.is_dir():
                raise ValueError(f"{file.path} is a folder inside a class; {LAYOUT}")
            ending = os.path.splitext(file.name)[1].lower()
            if ending in ENDINGS:
                pictures.append(Path(file.path))
            else:
                others[f"file {ending or 'without an ending'}"] += 1
    if others:
        shown = ", ".join(f"{count} × {kind}" for kind, count in others.most_common(5))
        log.warning("%s: passed over what is no picture: %s", folder, shown)
    return sorted(pictures)


def _visible(folder: Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(HIDDEN)]


def _check_classes(pictures: dict[str, list[Path]], root: str) -> None:
    """Raise an error unless every split has pictures, of at least two classes that are all trained."""
    if empty := [name for name, paths in pictures.items() if not paths]:
        raise FileNotFoundError(f"data.root={root}: no picture found for the {empty[0]} split; {LAYOUT}")
    classes = {name: {path.parent.name for path in paths} for name, paths in pictures.items()}
    for name, names in classes.items():
        if extra := sorted(names - classes["train"]):
            raise ValueError(f"data.root={root}: class {extra[0]} is in {name}/ only; add it to train/ or remove it")
    if len(classes["train"]) == 1:
        raise ValueError(f"data.root={root}: there is one class only ({classes['train'].pop()}), give at least two")
    for name in sorted(classes["train"] - classes.get("valid", classes["train"])):
        log.warning("data.root=%s: class %s has no picture in valid/", root, name)


def _held_out(images: Tensor, targets: Tensor, fraction: float) -> dict[str, Split]:
    """Split off about `fraction` of each class, evenly spread, to validate."""
    rank = torch.zeros_like(targets)  # of a picture within its class
    for k in targets.unique():
        rank[targets == k] = torch.arange(int((targets == k).sum()))
    valid = ((rank + 1) * fraction).floor() > (rank * fraction).floor()
    if not valid.any():
        raise ValueError(f"data.valid_fraction={fraction}: leaves no picture to validate; give a larger one")
    return {"train": (images[~valid], targets[~valid]), "valid": (images[valid], targets[valid])}
