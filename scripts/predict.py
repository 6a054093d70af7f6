"""Ask a trained network about pictures: python scripts/predict.py RUN image.png folder/ …

Prints the class and the probabilities of each picture, and where the network is unsure. A network that was trained on
MNIST's digits takes photographs of any size, dark on light or light on dark: the digit is cut out, scaled and centred
as MNIST's were. Pictures for other networks are only resized.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from seedbed.errors import ConfigError
from seedbed.trained.command import USAGE_ERROR, arguments_of, run_command, shown

COLUMNS = 10  # largest number of classes for which the table has a column each


def main() -> int:
    parser = arguments_of(__doc__)
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="a picture, or a folder of pictures")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print comma-separated values")
    form.add_argument("--json", action="store_true", help="print a list of {file, class, probability, probabilities}")
    parser.add_argument(
        "--save",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="FILE",
        help="write what the network saw to a picture (default: RUN/predict/seen.png)",
    )
    parser.add_argument("--plain", action="store_true", help="only resize the pictures, also those of digits")
    parser.add_argument("--sure", type=float, default=0.9, metavar="P", help="unsure below this (default: 0.9)")
    return run_command(parser, use)


def use(loaded, arguments) -> int:
    from tqdm import tqdm

    from seedbed.trained.predict import pictures_in, predict, sheet

    if not 0 < arguments.sure <= 1:
        raise ConfigError(f"--sure {arguments.sure}: must be a number > 0 and ≤ 1")
    loaded.require_pictures()
    predictions, broken = [], []
    files = pictures_in(arguments.pictures)
    for file in tqdm(files, desc="pictures", unit="picture", delay=2, leave=False):
        try:
            predictions.append(predict(loaded, file, loaded.knows_digits and not arguments.plain))
        except ValueError as error:
            broken.append(error)
    for error in broken:
        print(error, file=sys.stderr)
    if predictions or arguments.json or arguments.csv:
        print(text(predictions, loaded.facts.classes, arguments))
    if arguments.save is not None and predictions:
        path = loaded.folder / "predict" / "seen.png" if arguments.save == Path() else arguments.save
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet(predictions).savefig(path, dpi=200)
        print(f"what the network saw: {shown(path)}", file=sys.stderr)
    return USAGE_ERROR if broken else 0


def text(predictions, classes: list[str], arguments) -> str:
    """Return all predictions in the requested form; beside CSV and JSON, doubts go to stderr."""
    from seedbed.tables import aligned, csv_text

    if not arguments.json and not arguments.csv:
        columns = classes if len(classes) <= COLUMNS else []
        rows = [
            [
                str(p.file),
                p.ranked[0][0],
                f"{p.ranked[0][1]:.3f}",
                *(f"{p.probabilities[name]:.3f}" for name in columns),
                doubt(p, arguments),
            ]
            for p in predictions
        ]
        return aligned(["file", "class", "probability", *columns, ""], rows)
    for p in predictions:
        if said := doubt(p, arguments):
            print(f"{p.file}: {said}", file=sys.stderr)
    if arguments.csv:
        rows = [[p.file, *p.ranked[0], *p.probabilities.values()] for p in predictions]
        return csv_text(["file", "class", "probability", *classes], rows).rstrip("\n")
    objects = [
        {"file": str(p.file), "class": p.ranked[0][0], "probability": p.ranked[0][1], "probabilities": p.probabilities}
        for p in predictions
    ]
    return json.dumps(objects, indent=2, ensure_ascii=False)


def doubt(prediction, arguments) -> str:
    (_, probability), (second, other), *_ = prediction.ranked
    return "" if probability >= arguments.sure else f"unsure, perhaps {second} ({other:.3f})"


if __name__ == "__main__":
    sys.exit(main())
