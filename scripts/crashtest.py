"""Kill runs and sweeps at random moments, resume them, compare them with undisturbed ones and print what was lost.

python scripts/crashtest.py                       20 kills for each kind of worker: about 20 minutes on two cores
python scripts/crashtest.py --kills 3 single ddp  fewer, of some kinds
python scripts/crashtest.py --fuzz                damaged files for the readers instead: 12,000, in a minute or two

The exit code is 1 if something was lost.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from crashing.kill import KINDS, Outcome, crash

FUZZ = ("fuzz_idx(10_000)", "fuzz_pictures(1_000)", "fuzz_checkpoints(1_000)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of worker: {', '.join(KINDS)} (default: all)")
    parser.add_argument("--kills", type=int, default=20, help="kills for each kind (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and signals")
    parser.add_argument("--fuzz", action="store_true", help="give damaged files to the readers")
    arguments = parser.parse_args()
    if arguments.fuzz:
        return max(_fuzz(call) for call in FUZZ)
    if unknown := set(arguments.kinds) - KINDS.keys():
        parser.error(f"{', '.join(sorted(unknown))}: must be of {', '.join(KINDS)}")
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="crashtest-") as folder:
        for kind in arguments.kinds or KINDS:
            place = Path(folder, kind)
            place.mkdir()
            began = time.monotonic()
            outcomes.append(crash(kind, arguments.kills, place, arguments.seed))
            print(f"{kind}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(table(outcomes))
    for line in [f"{o.kind}: {line}" for o in outcomes for line in o.lost]:
        print(line)
    return int(any(o.lost for o in outcomes))


def table(outcomes: list[Outcome]) -> str:
    """Return a Markdown table: a row for each kind of worker."""
    head = "kind of worker|seconds without kills|kills by SIGKILL|kills by SIGTERM|kills after the first checkpoint|"
    head += "commands resumed to the end|slowest stop by SIGTERM|lost"
    rows = [head.split("|"), ["---"] * 8]
    for o in outcomes:
        kills = [str(o.kills[name]) for name in ("SIGKILL", "SIGTERM")]
        counts = [str(o.after_checkpoint), str(o.rounds), f"{o.slowest_stop:.1f} s", str(len(o.lost) or "nothing")]
        rows.append([o.kind, f"{o.seconds:.0f}", *kills, *counts])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _fuzz(call: str) -> int:
    """Run a fuzzer in a process of its own, because it checks the peak memory of its process."""
    code = f"from fuzzing.data_files import *; print({call})"
    return subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent).returncode


if __name__ == "__main__":
    sys.exit(main())
