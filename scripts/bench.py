"""Time Seedbed beside what a user would write or use else: python scripts/bench.py [epoch] [start] [sweep] …

Each subject runs both of its sides in turn and prints medians and ratios.
`epoch`: an epoch with validation, TensorBoard, progress bar and checkpoints, against the plain loop. About a minute.
`start`: whole commands that need no torch. Ten seconds.
`sweep`: fused sweeps beside the basic launcher, one job, plain loops and bare matrix products. Ten minutes.
`joblib`: 20 MLPs on all cores beside the basic launcher. Three minutes.
`halving`: 256 learning rates trained to the end and halved. Three minutes.
`resnet18`: one epoch beside fastai (pip install fastai). Ten minutes.
`speedrun`: one epoch of full MNIST beside the published recipe. A minute.
"""

import sys
from importlib import import_module

SUBJECTS = ("epoch", "start", "sweep", "joblib", "halving", "resnet18", "speedrun")

if __name__ == "__main__":
    subjects = sys.argv[1:] or SUBJECTS[:2]
    if unknown := set(subjects).difference(SUBJECTS):
        sys.exit(f"{', '.join(sorted(unknown))}: there is {', '.join(SUBJECTS)}")
    for subject in subjects:
        import_module(f"benchmarks.{subject}").main()
