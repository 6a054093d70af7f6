"""Decode many pictures of one size into one tensor, once: the next time it comes from a cache."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from seedbed.data.idx import default_root
from seedbed.data.picture_file import PictureError, read_picture, to_bytes
from seedbed.files import replacing

log = logging.getLogger(__name__)

FORMAT = b"2"  # of the cache: changes where a picture is converted to other pixels than before


def decode(paths: Sequence[Path], root: Path, on_broken: str) -> tuple[Tensor, list[bool]]:
    """Return uint8 [K, C, H, W] and, for each of the N paths, whether its picture is among the K.

    C is 1 if all pictures are grey, else 3. on_broken=skip leaves out pictures that `read_picture` refuses and links
    out of `root`; on_broken=error raises PictureError for the first. Raises ValueError where sizes differ, where all
    pictures are the same, and where they need more memory than the machine has.
    """
    broken = _links_out_of(root, paths)
    if broken and on_broken == "error":
        raise _refusal(root, next(iter(broken.values())))
    cache = default_root() / "image_folder" / f"{_key(paths, root, broken)}.npy"
    stored = _load(cache, len(paths))
    if stored is None or (on_broken == "error" and not stored[0].all()):
        kept, array = stored = _read(paths, root, broken, on_broken)
        _save(cache, *stored)
    kept, array = stored
    if not kept.all():
        first = paths[kept.argmin()]
        log.warning("data.on_broken=skip: left out %d of %d pictures, first %s", (~kept).sum(), len(kept), first)
    return torch.from_numpy(array), kept.tolist()


def _links_out_of(root: Path, paths: Sequence[Path]) -> dict[Path, PictureError]:
    inside = os.path.join(os.path.realpath(root), "")
    folders = {folder: os.path.realpath(folder) for folder in {path.parent for path in paths}}
    targets = {p: os.path.realpath(p) if p.is_symlink() else f"{folders[p.parent]}/{p.name}" for p in paths}
    return {
        path: PictureError(f"{path} is a link out of the folder, to {target}")
        for path, target in targets.items()
        if not target.startswith(inside)
    }


def _key(paths: Sequence[Path], root: Path, broken: Mapping[Path, PictureError]) -> str:
    """Return a hash of the files' names, sizes and times.

    The time of the last change of any kind is among them: archives are unpacked with older times of modification.
    """
    key = hashlib.sha256(FORMAT)
    for path in paths:
        key.update(os.fsencode(path)[len(os.fsencode(root)) :])
        with suppress(OSError):  # of a link to nothing; reading it fails, too
            stat = path.stat()
            key.update(f"\0{path in broken} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}\n".encode())
    return key.hexdigest()[:32]


def _load(cache: Path, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the mask [count] and the pictures of a cache file; None if there is none, or a damaged one."""
    with suppress(OSError, ValueError, EOFError, MemoryError), cache.open("rb") as f:
        kept, array = np.load(f), np.load(f)
        if (kept.shape, kept.dtype, array.dtype, len(array)) == ((count,), bool, np.uint8, kept.sum()):
            return kept, array
    return None


def _save(cache: Path, kept: np.ndarray, array: np.ndarray) -> None:
    """Write a cache file, whole or not at all; where there is no room or no permission, do without it."""
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cache) as temporary, open(temporary, "wb") as f:
            np.save(f, kept)
            np.save(f, array)


def _read(
    paths: Sequence[Path], root: Path, broken: Mapping[Path, PictureError], on_broken: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mask [N] of the pictures that can be read, and their pixels [K, C, H, W]."""

    def read(path: Path, size: tuple[int, int] | None) -> np.ndarray | PictureError:
        try:
            return broken[path] if path in broken else read_picture(path, size)
        except PictureError as error:
            if on_broken == "error":
                raise _refusal(root, error) from error
            return error

    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:  # Pillow releases the GIL while it decodes
        warnings.filterwarnings("ignore", module="PIL")  # what it says of odd metadata
        first = next((p for p in (read(path, None) for path in paths) if isinstance(p, np.ndarray)), None)
        if first is None:
            raise PictureError(
                f"data.root={root}: none of its {len(paths)} pictures can be read; {read(paths[0], None)}"
            )
        _check_memory(len(paths) * first.nbytes, len(paths), root)
        results = pool.map(partial(read, size=first.shape[:2]), paths)
        results = list(tqdm(results, f"decoding {root}", len(paths), unit="file", leave=False))
    for error in [result for result in results if isinstance(result, PictureError)][:5]:
        log.warning("%s", error)
    kept = np.array([isinstance(result, np.ndarray) for result in results])
    pictures = to_bytes([result for result in results if isinstance(result, np.ndarray)])
    channels = 3 if any(picture.ndim == 3 for picture in pictures) else 1
    array = np.empty((len(pictures), channels, *first.shape[:2]), np.uint8)
    for i, picture in enumerate(pictures):  # [H, W] goes into each channel
        array[i] = picture if picture.ndim == 2 else picture.transpose(2, 0, 1)
    if all(np.array_equal(picture, array[0]) for picture in array):
        raise ValueError(f"data.root={root}: its {len(array)} pictures are all the same, there is nothing to learn")
    return kept, array


def _refusal(root: Path, error: PictureError) -> PictureError:
    return PictureError(f"data.root={root}: {error}; replace or remove it, or leave it out with data.on_broken=skip")


def _check_memory(needed: int, count: int, root: Path) -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise ValueError(
            f"data.root={root}: its {count} pictures need {needed / 2**30:.0f} GiB of memory, this machine has"
            f" {memory / 2**30:.0f}; scale them down"
        )
