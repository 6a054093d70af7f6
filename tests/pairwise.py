"""Rows of choices, group → name, in which every pair of choices that works occurs in some row."""

import itertools
import random
from pathlib import Path

import numpy as np
from PIL import Image

CONF = Path(__file__).resolve().parents[1] / "conf"

# data without classes, the models and losses for it, the models for any data, and those for init=fixup
NUMBERS = {"roller_coaster", "function"}
OF_NUMBERS = {"model": {"quadratic", "rectified_lines"}, "loss": {"mse", "rmse", "l1"}}
ANY_SHAPE = {"linear", "linear_scratch", "mlp"}
RESIDUAL = {"fixup_resnet18"}

# options that make the large networks narrow: an orthogonal matrix of resnet18's, or a step, takes seconds
NARROW = {"resnet18": {"width": 4}, "fixup_resnet18": {"width": 4}}
NARROW["timm"] = {"stem_width": 4, "channels": [4, 8, 16, 32]}


def narrow(config):
    """Return a config whose model, if it is a large one, has fewer channels."""
    name = config["model"]["_target_"].rpartition(".")[2]
    return config | {"model": config["model"] | NARROW.get(name, {})}


def choices(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def is_valid(row):
    """Whether a row, or some of its choices (group → name), must work; every other one must be refused."""
    data, model, loss, init = (row.get(group) for group in ("data", "model", "loss", "init"))
    if data and model and model not in ANY_SHAPE and (data in NUMBERS) != (model in OF_NUMBERS["model"]):
        return False
    if data in NUMBERS and loss and loss not in OF_NUMBERS["loss"]:
        return False
    if model in OF_NUMBERS["model"] and loss and loss not in OF_NUMBERS["loss"]:
        return False
    is_residual = data not in NUMBERS and (not model or model in RESIDUAL)
    return init != "fixup" or is_residual


def pairs(row):
    return set(itertools.combinations(row.items(), 2))


def all_pairs(names, valid):
    """Return the pairs of choices that work, or those that do not. names: group → choices."""
    found = (((a, x), (b, y)) for a, b in itertools.combinations(names, 2) for x in names[a] for y in names[b])
    return [pair for pair in found if is_valid(dict(pair)) == valid]


def covering_rows(names, wanted, seed=0, tries=40):
    """Return rows in which every wanted pair occurs: each begins with a missing pair and adds most others."""
    rng, missing, rows = random.Random(seed), dict.fromkeys(wanted), []
    while missing:
        begun = dict(next(iter(missing)))
        found = ({g: begun.get(g) or rng.choice(names[g]) for g in names} for _ in range(100 * tries))
        candidates = list(itertools.islice(filter(is_valid, found), tries))
        best = max(candidates, key=lambda row: len(pairs(row) & missing.keys()))
        for pair in pairs(best):
            missing.pop(pair, None)
        rows.append(best)
    return rows


def noise_files(root):
    """Write pictures of noise; return data choice → the overrides that name them, for sets that need not be here."""
    rng = np.random.default_rng(0)
    for split, name, k in itertools.product(("train", "valid"), "abc", range(8)):
        (root / "pictures" / split / name).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(rng.integers(0, 256, (28, 28, 3), np.uint8))
        picture.save(root / "pictures" / split / name / f"{k}.png")
    # 10,000 of the training file validate
    for split, count in (("train", 10_016), ("t10k", 16)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            content = rng.integers(0, 10, shape, np.uint8).tobytes()
            header = b"\0\0\x08" + bytes([len(shape)]) + np.array(shape, ">u4").tobytes()
            (root / f"{split}-{kind}-ubyte").write_bytes(header + content)
    idx = {name: [f"data.root={root}"] for name in ("fashion_mnist", "kmnist")}
    return idx | {"image_folder": [f"data.root={root}/pictures"]}
