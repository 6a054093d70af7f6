"""A user's own pictures: train/<class>/*, valid/<class>/* and perhaps test/<class>/*; or <class>/* and a split."""

from __future__ import annotations

import hashlib
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from seedbed.data.idx import default_root
from seedbed.data.splits import Split, Splits

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


def image_folder(root: str, valid_fraction: float = 0.2) -> Splits:
    """Pictures below `root`, one folder a class; grey if all are grey, else RGB; all of one size.

    Decoded once and cached as a tensor, under a key made of the files' names, sizes and times. Without train/ and
    valid/ folders, every k-th picture of each class validates, k = 1/valid_fraction.
    Raises FileNotFoundError (no such folder, or no picture in it) or ValueError (sizes differ, a file is damaged).
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"data.root={root}: there is no such folder")
    splits = {name: folder / name for name in ("train", "valid", "test") if (folder / name).is_dir()}
    if not {"train", "valid"} <= splits.keys():
        splits = {"all": folder}
    found = {name: _pictures(path) for name, path in splits.items()}
    classes = sorted({path.parent.name for paths in found.values() for path in paths})
    if not classes or not all(found.values()):
        raise FileNotFoundError(
            f"data.root={root}: no picture found in train/<class>/ and valid/<class>/, nor in <class>/"
        )
    everything = [path for paths in found.values() for path in paths]
    images = _decoded(everything, folder)
    targets = torch.tensor([classes.index(path.parent.name) for path in everything])
    if "all" in found:
        held_out = _every_kth(targets, valid_fraction)
        if held_out.all() or not held_out.any():
            raise ValueError(f"data.valid_fraction={valid_fraction}: leaves no picture to train or none to validate")
        train, valid = (images[~held_out], targets[~held_out]), (images[held_out], targets[held_out])
        test = None
    else:
        parts = dict(zip(found, _split(images, targets, [len(paths) for paths in found.values()]), strict=True))
        train, valid, test = parts["train"], parts["valid"], parts.get("test")
    return Splits(train, valid, test, classes)


def _pictures(folder: Path) -> list[Path]:
    """All pictures of folder/<class>/, classes and names in string order."""
    found = (Path(entry.path) for sub in os.scandir(folder) if sub.is_dir() for entry in os.scandir(sub.path))
    return sorted(path for path in found if path.suffix.lower() in ENDINGS)


def _split(images: torch.Tensor, targets: torch.Tensor, sizes: list[int]) -> list[Split]:
    return list(zip(images.split(sizes), targets.split(sizes), strict=True))


def _every_kth(targets: torch.Tensor, fraction: float) -> torch.Tensor:
    """Mask [N] of about `fraction` of each class, evenly spread."""
    rank = torch.zeros_like(targets)
    for k in targets.unique():
        rank[targets == k] = torch.arange(int((targets == k).sum()))
    return ((rank + 1) * fraction).floor() > (rank * fraction).floor()


def _decoded(paths: list[Path], folder: Path) -> torch.Tensor:
    """uint8 [N, C, H, W], from the cache if these very files were decoded before."""
    key = hashlib.sha256()
    for path in paths:
        stat = path.stat()
        key.update(f"{path.relative_to(folder)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    cache = default_root() / "image_folder" / f"{key.hexdigest()[:32]}.npy"
    if cache.is_file():
        return torch.from_numpy(np.load(cache))
    with ThreadPoolExecutor() as pool:  # Pillow releases the GIL while it decodes
        images = list(tqdm(pool.map(_decode, paths), f"decoding {folder}", len(paths), unit="file", leave=False))
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        raise ValueError(f"data.root={folder}: pictures differ in size ({', '.join(map(str, sorted(sizes)[:3]))}, …)")
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.repeat(image[:, :, None], 3, 2) for image in images]
        array = np.stack(images).transpose(0, 3, 1, 2)
    else:
        array = np.stack(images)[:, None]
    array = np.ascontiguousarray(array)
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=cache.parent, suffix=".tmp", delete=False) as f:
        np.save(f, array)
    os.replace(f.name, cache)
    return torch.from_numpy(array)


def _decode(path: Path) -> np.ndarray:
    """uint8 [H, W] of a grey picture, [H, W, 3] of any other."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):
                return (np.asarray(image) >> 8).astype(np.uint8)
            return np.asarray(image.convert("L" if image.mode in ("L", "1", "LA") else "RGB"))
    except (OSError, SyntaxError) as error:  # Pillow's words for a broken PNG
        raise ValueError(f"{path} is damaged: {error}") from error
