"""Evaluate a trained network: python scripts/evaluate.py RUN [data=… data.root=…]

Prints loss, accuracy and the accuracy of each class on the validation set, and on the test set where there is one, and
writes metrics.json and pictures of the confusion matrix and the worst mistakes to RUN/evaluate. With data=… the network
is tried on another data set; classes are matched by their names, and pictures of unknown classes are left out.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from seedbed.errors import ConfigError
from seedbed.trained.command import arguments_of, run_command, shown


def main() -> int:
    parser = arguments_of(__doc__)
    parser.add_argument("data", nargs="*", metavar="data=…", help="another data set, in the words of train.py")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder to write into (default: RUN/evaluate)")
    return run_command(parser, use)


def use(loaded, arguments) -> int:
    from tqdm import tqdm

    from seedbed.files import write_whole
    from seedbed.tables import figure
    from seedbed.trained.evaluate import data_of, evaluate, known

    if hasattr(loaded.net, "generator"):
        raise ConfigError(f"{loaded.folder}: {loaded.name} draws pictures: there is no answer to be right or wrong")
    data = data_of(loaded, data_node(loaded.config, arguments.data))
    out = arguments.out or loaded.folder / "evaluate"
    out.mkdir(parents=True, exist_ok=True)
    metrics: dict = {"checkpoint": str(loaded.checkpoint.absolute()), "data": arguments.data}
    print(f"{loaded.name}, {loaded.checkpoint.stem} weights of {shown(loaded.folder)}")
    files = ["metrics.json"]
    for stage, name, split in (("val", "validation", data.splits.valid), ("test", "test", data.splits.test)):
        if split is None:
            continue
        split, unknown = known(split, data.splits.classes, loaded.facts.classes)
        if unknown:
            print(f"left out: {name} pictures of classes that the network does not know ({', '.join(unknown)})")
        progress = partial(tqdm, desc=name, unit="batch", delay=2, leave=False)
        evaluation = evaluate(loaded, data, split, progress)
        metrics |= evaluation.metrics(stage)
        loss = f"loss {figure(evaluation.answers.loss)}"
        if not evaluation.classes:
            print(f"\n{len(split[1])} {name} samples: {loss}")
            continue
        print(
            f"\n{len(split[1])} {name} pictures: accuracy {evaluation.accuracy:.4f}, {loss}\n\n{by_class(evaluation)}"
        )
        for kind, drawn in evaluation.figures(f"{loaded.checkpoint.stem} weights", f"{name} pictures").items():
            files.append(f"{kind}.png" if stage == "val" else f"{stage}_{kind}.png")
            drawn.savefig(out / files[-1])
    write_whole(out / "metrics.json", json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    print(f"\nwritten: {shown(out)}: {', '.join(files)}")
    return 0


def by_class(evaluation) -> str:
    from seedbed.tables import aligned

    rows = [
        [name, str(count), str(right), f"{right / count:.4f}" if count else "–", mistaken]
        for name, count, right, mistaken in evaluation.by_class()
    ]
    return aligned(["class", "pictures", "right", "accuracy", "most often mistaken for"], rows)


def data_node(config: dict, overrides: list[str]) -> dict:
    """Return the data of a run's config with overrides, or that of train.py with them if they choose a data set."""
    from omegaconf import OmegaConf

    from seedbed.allowed_values import check
    from seedbed.studies.lab import compose, hydra_errors_in_one_line

    for word in overrides:
        if not word.startswith(("data=", "data.")) or "=" not in word:
            raise ConfigError(f"{word}: must be data=… or data.KEY=…, to evaluate on other data")
    if any(word.startswith("data=") for word in overrides):
        node = compose(overrides)["data"]
    else:
        with hydra_errors_in_one_line():
            changes = OmegaConf.from_dotlist(overrides)
            node = OmegaConf.to_container(OmegaConf.merge({"data": config["data"]}, changes), resolve=True)["data"]
    check({"data": node})
    return node


if __name__ == "__main__":
    sys.exit(main())
