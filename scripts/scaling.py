"""Print what a job of a fused sweep costs besides training, part by part: the figures of docs/scaling.md.

python scripts/scaling.py 1000        1,000 linear jobs of one epoch: ms of processor time, bytes and files per job
"""

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SPENT: dict[str, float] = {}  # part → seconds of processor time


def timed(owner: object, name: str, part: str) -> None:
    """Count each call of owner.name under `part`."""
    function: Callable = getattr(owner, name)

    def counted(*args, **kwargs):
        start = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            SPENT[part] = SPENT.get(part, 0.0) + time.process_time() - start

    setattr(owner, name, counted)


def watch() -> None:
    from seedbed.fused import checkpoints, member_events, stack, sweep
    from seedbed.sweeps import batch, compose, manifest, summary

    timed(compose.BulkComposer, "job", "compose")
    timed(manifest.Manifest, "add", "manifest.jsonl, written")
    timed(batch, "write_hydra_folder", ".hydra/")
    timed(stack.Stack, "__init__", "stack of networks")
    timed(checkpoints.MemberCheckpoints, "write", "last.ckpt, best.ckpt")
    timed(member_events.MemberEvents, "append", "event file")
    timed(member_events, "serialized", "event file")
    timed(sweep, "hparams_records", "event file")
    timed(sweep, "write_metrics", "metrics.json")
    timed(summary, "read", "summary, read")
    timed(summary, "write", "summary, written")


def main(count: int) -> None:
    import seedbed
    from seedbed.sweeps.manifest import Manifest

    folder = Path(tempfile.mkdtemp())
    overrides = ["hydra/launcher=fused", "model=linear", "trainer.max_epochs=1", f"hydra.sweep.dir={folder}/sweep"]
    watch()
    start = time.process_time()
    seedbed.sweep(*overrides, f"seed=range(0,{count})", "data.seed=0")
    SPENT["everything, training included"] = time.process_time() - start
    start = time.process_time()
    Manifest(folder / "sweep")
    SPENT["manifest.jsonl, read"] = time.process_time() - start
    print()
    for part, seconds in SPENT.items():
        print(f"{part:32} {seconds / count * 1e3:8.3f} ms per job")
    paths = list((folder / "sweep").rglob("*"))
    on_disk = sum(path.stat().st_blocks for path in paths) * 512
    print(f"{len(paths) / count:.2f} files and folders, {on_disk / count:.0f} bytes on disk per job")
    for name in ("manifest.jsonl", "summary.csv"):
        print(f"{name}: {(folder / 'sweep' / name).stat().st_size / count:.0f} bytes per job")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB, process {os.getpid()}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", type=int, help="number of jobs")
    main(parser.parse_args().jobs)
