"""Time Seedbed beside the code or the library that one would use otherwise: python scripts/bench.py [SUBJECT …]

    epoch       one epoch with validation, TensorBoard, progress bar and checkpoints, beside the plain loop    1 min
    start       commands that train nothing, beside the import that each needs                                 10 s
    stacks      100 MLPs in one stack beside plain loops, and as a share of the processor's peak               7 min
    sweep       fused sweeps beside the basic launcher and one job                                             5 min
    busy        ten epochs beside two busy processes a core, and on an idle machine                            3 min
    processes   20 MLPs in one process per core, beside one after another                                      3 min
    halving     256 learning rates trained to the end, and halved                                              3 min
    resnet18    one epoch beside fastai (pip install fastai)                                                   10 min
    speedrun    one epoch of full MNIST beside the published recipe                                            1 min
    gpu         epochs, stacks of 1 to 10,000 and seconds to 99 % on an NVIDIA GPU                             5 min
    board       seconds to 99 % and 99.4 % of full MNIST's test set, alone and in a stack, 20 seeds            13 min

Without a subject it runs epoch and start. Each subject runs its sides in turn and prints medians and ratios.
"""

import argparse
from importlib import import_module

from benchmarks.measure import machine

from seedbed.startup.quick_import import import_torch

SUBJECTS = ("epoch", "start", "stacks", "sweep", "busy", "processes", "halving", "resnet18", "speedrun", "gpu", "board")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", default=SUBJECTS[:2], metavar="SUBJECT", help="what to time")
    subjects = parser.parse_args().subjects
    if unknown := set(subjects).difference(SUBJECTS):
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(SUBJECTS)}")
    # with threads that sleep soon, as in train.py
    import_torch()
    print(machine(), flush=True)
    for subject in subjects:
        import_module(f"benchmarks.{subject}").main()
