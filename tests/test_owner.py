"""A folder has one owner; a second process is told who it is; a dead owner's folder is taken over."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from seedbed.errors import ConfigError
from seedbed.owner import LOCK, OWNER, owned, take

ROOT = Path(__file__).resolve().parents[1]
HOLD = "import sys; from pathlib import Path; from seedbed.owner import take; lock = take(Path(sys.argv[1])); "
HOLD += "print('held'); input()"


@pytest.fixture
def holder(tmp_path):
    """Another process that owns tmp_path."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_second_process_is_refused_until_the_owner_dies(tmp_path, holder):
    with pytest.raises(ConfigError, match=rf"run by another process: pid {holder.pid} on \S+, for \d+ s$"):
        take(tmp_path)
    holder.kill()
    holder.wait()
    # the dead owner's files are still there
    assert (tmp_path / OWNER).exists() and (tmp_path / LOCK).exists()
    with owned(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_second_run_that_goes_on_in_a_folder_is_refused(tmp_path, holder):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "train.log").write_text("of the first run\n")
    command = [sys.executable, str(ROOT / "train.py"), f"hydra.run.dir={tmp_path}", "trainer.accelerator=cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert re.fullmatch(r"hydra\.run\.dir=.* is being run by another process: pid \d+ on .*\n", done.stderr)
    assert (tmp_path / "train.log").read_text() == "of the first run\n"


def test_second_resume_of_a_sweep_is_refused(tmp_path, holder):
    command = [sys.executable, str(ROOT / "train.py"), "-m", "seed=0,1", f"hydra.sweep.dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and f"another process: pid {holder.pid} on" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_commands_of_one_second_get_folders_of_their_own(tmp_path):
    """Twenty at once, as Hydra asks for them."""
    code = (
        "from concurrent.futures import ThreadPoolExecutor; from pathlib import Path; from itertools import count;"
        "from seedbed.sweeps.folders import _claim; import sys;"
        "claim = lambda _: _claim(Path(sys.argv[1]), (f'12-00-00-{n}' for n in count()));"
        "print(*ThreadPoolExecutor(10).map(claim, range(10)))"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(2)]
    folders = [name for process in both for name in process.communicate()[0].split()]
    assert len(folders) == len(set(folders)) == 20
