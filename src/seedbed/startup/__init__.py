"""Checks before a run begins; quick start and exit of a command, which SEEDBED_PLAIN=1 turns off."""

import os

PLAIN = os.environ.get("SEEDBED_PLAIN") == "1"
