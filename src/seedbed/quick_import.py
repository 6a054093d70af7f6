"""Import torch and Lightning a second sooner."""

import gc
import sys


def import_torch() -> None:
    """What every run needs and --help, --cfg and completion do without: imported with the garbage collector off.

    Imports make objects, not garbage, and neither is there any among torch's when Python exits.
    """
    if "torch" in sys.modules:
        return
    gc.disable()
    import torch  # noqa: F401

    gc.freeze()
    import lightning.pytorch  # noqa: F401

    gc.enable()
