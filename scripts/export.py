"""Take a trained network out of Python: python scripts/export.py RUN [--html]

Writes RUN/model.onnx, and compares its answers with the network's on 100 samples (pip install -e ".[onnx]"). With
--html it writes RUN/draw.html instead, for linear models and MLPs: one file that any browser opens without a server.
One draws a digit there and sees the probabilities and the first layer's answer at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

from seedbed.trained.command import arguments_of, run_command, shown


def main() -> int:
    parser = arguments_of(__doc__)
    parser.add_argument("--html", action="store_true", help="write a page to draw on")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: in the run's folder)")
    return run_command(parser, use)


def use(loaded, arguments) -> int:
    out = arguments.out or loaded.folder / ("draw.html" if arguments.html else "model.onnx")
    if arguments.html:
        from seedbed.files import write_whole
        from seedbed.trained.html import as_page

        page = as_page(loaded)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, page)
        print(f"written: {shown(out)} ({len(page) / 1e6:.1f} MB): open it in a browser and draw")
        return 0
    from seedbed.trained.onnx import export_onnx, require_packages

    require_packages()
    print("exporting: this takes some ten seconds", file=sys.stderr)
    apart, tried = export_onnx(loaded, out)
    print(f"written: {shown(out)}: answers like the network on {tried}, at most {apart:.1e} apart")
    return 0


if __name__ == "__main__":
    sys.exit(main())
