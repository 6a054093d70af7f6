"""The readers survive a sample of damaged files; scripts/crashtest.py --fuzz reads many more."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.mark.parametrize("call", ["fuzz_idx(500)", "fuzz_pictures(150)", "fuzz_checkpoints(60)"])
def test_damaged_files_are_read_or_refused(call):
    code = f"from fuzzing.data_files import *; print({call})"
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert " read, " not in done.stdout.split(",")[0] and "refused" in done.stdout
