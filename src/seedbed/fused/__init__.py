"""Many runs as one tensor program."""

from seedbed.startup.quick_import import import_torch

import_torch()
