"""Number the format of the files that runs and sweeps leave: metrics.json, the manifest and checkpoints.

1: no version is written; targets as they were before `moved.py`; checkpoints count no steps and losses
2: checkpoints hold the steps, the record of losses and the history
3: checkpoints hold the curve by steps and the facts on which bits depend; configs have trainer.log_every_n_steps
4: configs have trainer.capture

A new key in conf/ or in a file makes a new version, with a sample in tests/samples. A sweep of an earlier version
can be resumed although its configs lack the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.errors import ConfigError

FORMAT = 4
# the file that marks the folder of a sweep
MANIFEST = "manifest.jsonl"


def check_format(content: Mapping[str, Any], name: str, key: str = "format") -> int:
    """Return the version of a file's content. Raises ConfigError if a later version wrote it."""
    version = content.get(key, 1)
    if version > FORMAT:
        raise ConfigError(f"{name}: is of a later version of Seedbed: its format is {version}, known are 1 to {FORMAT}")
    return version
