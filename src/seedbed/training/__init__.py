"""One run: its parts, its LightningModule, its loops, and what it leaves in its folder."""

from seedbed.startup.quick_import import import_torch

import_torch()
