"""Groups of parameters with numbers of their own, chosen by patterns of the parameters' names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn


def grouped(
    params: Iterable[nn.Parameter],
    optim: Callable[..., torch.optim.Optimizer],
    groups: Sequence[Mapping[str, Any]],
    names: Mapping[nn.Parameter, str],
) -> torch.optim.Optimizer:
    """Return `optim` over params, with one group for each of `groups` behind the group of all other parameters.

    Each of `groups` has `params`, a pattern of names such as "*bias" or a list of patterns, and options of the
    optimiser; `lr_scale` multiplies the lr. A parameter belongs to the first group that matches. The optimiser's
    attribute `own` lists the options of each group that are its own. Raises ValueError for a pattern that no name
    matches, and for an option that the optimiser does not have.
    """
    left, made, own = {names[p]: p for p in params}, [], []
    for group in groups:
        options = {k: v for k, v in group.items() if k != "params"}
        patterns = [group["params"]] if isinstance(group.get("params"), str) else group.get("params") or [""]
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names.values()):
                shown = ", ".join([*names.values()][:4])
                raise ValueError(f"groups: params={pattern}: no parameter has such a name; there are {shown}, …")
        mine = [name for name in left if any(fnmatchcase(name, pattern) for pattern in patterns)]
        if mine:
            made.append([left.pop(name) for name in mine])
            own.append(options)
    if left:
        made, own = [[*left.values()], *made], [{}, *own]
    optimizer = optim([{"params": group} for group in made])
    optimizer.own = [_own_options(options, optimizer.defaults) for options in own]
    for group, options in zip(optimizer.param_groups, optimizer.own, strict=True):
        group.update(options)
    return optimizer


def _own_options(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as the optimiser knows them. Raises ValueError for one that it does not have."""
    if unknown := options.keys() - defaults.keys() - {"lr_scale"}:
        raise ValueError(f"groups: the optimiser has no {min(unknown)}; it has {', '.join(sorted(defaults))}, lr_scale")
    own = {k: v for k, v in options.items() if k != "lr_scale"}
    if "lr_scale" in options:
        own["lr"] = own.get("lr", defaults["lr"]) * options["lr_scale"]
    return own
