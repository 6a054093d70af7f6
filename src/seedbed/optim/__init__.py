"""Optimisers. An optimiser is f(params, lr, …) → torch.optim.Optimizer; PyTorch's are used as they are.

One that stacks of runs can use, too, names its stacked version in a class attribute `stacked` (see `stacked.py`); jobs
with any other run one by one.
"""
