"""Write the report of a sweep, one HTML page: python scripts/report.py outputs/sweeps/<date>/<time> [another sweep …]

Writes report.html (a single file that any browser opens) and report/*.png into the first sweep's folder or `--out`:
the best jobs, the effect of each swept value with 95 % intervals over seeds, paired comparisons with p-values, heat
maps, curves with bands, parallel coordinates. 10,000 jobs take six seconds of processor time.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", nargs="+", type=Path, metavar="SWEEP", help="folder of a sweep")
    parser.add_argument("--metric", help="what to compare, such as val/loss (default: what the sweep optimised)")
    parser.add_argument("--out", type=Path, help="folder to write into (default: the first sweep's)")
    parser.add_argument("--by-sweep", action="store_true", help="compare several sweeps with each other")
    arguments = parser.parse_args()
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - begin:5.1f} s  {text}", file=sys.stderr, flush=True)

    from seedbed.report.write import write_report

    out = arguments.out or arguments.sweeps[0]
    try:
        if arguments.out:
            out.mkdir(parents=True, exist_ok=True)
        path = write_report(arguments.sweeps, out, arguments.metric, arguments.by_sweep, say)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"report: {path}   ({time.perf_counter() - begin:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
