"""Seedbed: small, controlled training runs with PyTorch Lightning and Hydra.

Parts (data, models, losses, inits, optim, schedules) know torch only; `seedbed.build` puts a run together from a
config, `seedbed.run` trains it and writes down what came out.
"""
