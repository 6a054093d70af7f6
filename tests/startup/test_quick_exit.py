"""A process that exits quickly has done all that one does that exits slowly."""

import subprocess
import sys

import pytest

SCRIPT = """
import atexit, os, sys, threading, time

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
"""


@pytest.mark.parametrize("quick", [False, True])
def test_threads_exit_functions_and_output_are_waited_for_and_nothing_is_destroyed(quick):
    end = "from seedbed.startup.quick_exit import quick_exit; quick_exit()" if quick else ""
    done = subprocess.run([sys.executable, "-c", SCRIPT + end], capture_output=True, text=True, timeout=60)
    assert (done.returncode == 0) is quick  # the object that aborts is destroyed by a shutdown only
    if quick:
        assert done.stdout.split() == ["begun", "thread", "registered"] and done.stderr == "said"
