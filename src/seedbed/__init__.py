"""Seedbed: small, controlled training runs with PyTorch Lightning and Hydra."""
