"""A process that exits quickly has done all that one does that exits slowly."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import atexit, os, sys, threading, time
from seedbed.startup.quick_exit import quick_exit

class Aborts:
    def __del__(self, abort=os.abort):
        abort()

def late():
    time.sleep(0.3)
    print("thread")

aborts = Aborts()
atexit.register(print, "registered")
threading.Thread(target=late).start()
sys.stdout.write("begun\\n")
sys.stderr.write("said")
quick_exit()
"""


@pytest.mark.parametrize("plain", ["0", "1"])
def test_quick_exit_joins_threads_calls_exit_functions_and_flushes_but_destroys_nothing(plain):
    command, env = [sys.executable, "-c", SCRIPT], os.environ | {"SEEDBED_PLAIN": plain}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    # only Python's own exit destroys the object that aborts
    assert (done.returncode == 0) is (plain == "0")
    if plain == "0":
        assert done.stdout.split() == ["begun", "thread", "registered"] and done.stderr == "said"
