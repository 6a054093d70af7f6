"""The TensorBoard event files of a stack's members, which grow while the stack trains."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seedbed import event_files
from seedbed.fused.events import Points, beginning, serialized
from seedbed.fused.stack import Stack
from seedbed.metrics import LR, TRAIN_LOSS
from seedbed.training.logger import over_epochs, thinned

# seconds between two looks at the files, and the share of the time that writing may take
EVERY, SHARE = 5.0, 0.05
# records made at a time
BLOCK = 2**14
# curves with the same tags of all members, and the places of member i's points in them
Piece = tuple[Points, Callable[[int], Any]]
_number = count()


class MemberEvents:
    """Appends to the event files of a stack's members after an epoch, at most once in `every` seconds, and at the end.

    No file stays open. A resumed stack begins the files anew, with all the points that its checkpoint has, so that none
    stands there twice.

    folders: member → folder, of the members whose file is to be written.
    """

    def __init__(self, stack: Stack, folders: Mapping[int, Path], every: float = EVERY):
        self.stack, self.folders, self.every = stack, folders, every
        self._paths: dict[int, str] = {}
        # points and epochs that the files have
        self._points = self._epochs = 0
        self._due = time.monotonic() + every

    def grow(self, steps: Sequence[int]) -> None:
        """Append what the files lack, if that is due. steps: the run's number of steps at the end of each epoch."""
        start = time.monotonic()
        if start < self._due:
            return
        self.stack.log_points()
        curves = _Curves(self.stack, steps)
        for i, content in enumerate(self._contents(curves.since(self._points, self._epochs))):
            self.append(i, content)
        self._points, self._epochs = len(curves.points), len(curves.epochs)
        now = time.monotonic()
        self._due = now + max(self.every, (now - start) / SHARE)

    def rest(self, steps: Sequence[int]) -> Iterator[bytes]:
        """Yield the records that each member's file still lacks after training and test, without the HParams record."""
        curves = _Curves(self.stack, steps)
        return self._contents([*curves.since(self._points, self._epochs), *curves.over_epochs(), *curves.tested()])

    def append(self, i: int, content: bytes) -> None:
        """Append to member i's file; the first time, begin one in the place of those that are there."""
        if i not in self.folders:
            return
        if i not in self._paths:
            folder = self.folders[i]
            folder.mkdir(parents=True, exist_ok=True)
            for path in event_files.paths(folder):
                os.unlink(path)
            name = f"{event_files.PREFIX}{int(time.time())}.{socket.gethostname()}.{os.getpid()}.f{next(_number)}"
            self._paths[i], content = f"{folder}/{name}", beginning(self.stack.began) + content
        with open(self._paths[i], "ab") as file:
            file.write(content)

    def _contents(self, pieces: Iterable[Piece]) -> Iterator[bytes]:
        """Yield each member's records of the pieces."""
        pieces, members = list(pieces), self.stack.members
        size = max(1, BLOCK // max([points.times.size for points, _ in pieces], default=1))
        for first in range(0, members, size):
            block = slice(first, first + size)
            made = [(serialized(points.of(block)), chosen) for points, chosen in pieces]
            for i in range(first, min(first + size, members)):
                yield b"".join(records[i - first, chosen(i)].tobytes() for records, chosen in made)


class _Curves:
    """The curves of a stack's members up to the last epoch that has ended."""

    def __init__(self, stack: Stack, steps: Sequence[int]):
        self.stack, self.steps = stack, steps
        self.points = [point for point in stack.points if point[0] <= steps[-1]]
        # (number, wall time, step, metrics [M]), the untrained network first
        first = [(0, stack.began, 0, stack.untrained)] if stack.untrained else []
        self.epochs = [*first, *zip(count(1), stack.wall_times, steps, stack.history, strict=False)]
        # [M]: the last epoch and the last step of each member
        ended, at = stack.ended_at.numpy(), stack.ended_steps.numpy()
        self.last_epoch = np.where(ended < 0, len(stack.history), ended + 1)
        self.last_step = np.where(at > 0, at, np.array(steps)[self.last_epoch - 1])

    def since(self, points: int, epochs: int) -> Iterator[Piece]:
        """Yield the curves over steps, without the first `points` points and the first `epochs` epochs."""
        if new := self.points[points:]:
            steps = np.array([step for step, _, _ in new])
            losses, rates = (torch.stack([point[k] for point in new], -1).cpu().numpy() for k in (1, 2))
            times = np.interp(steps, [0, *self.steps], [self.stack.began, *self.stack.wall_times])
            known = np.searchsorted(steps, self.last_step, "right")
            yield Points(times, steps, {TRAIN_LOSS: losses, LR: rates}), lambda i: slice(known[i])
        rows = [
            (number, wall, step, {name: v for name, v in metrics.items() if name not in (TRAIN_LOSS, LR)})
            for number, wall, step, metrics in self.epochs[epochs:]
        ]
        yield from self._by_tags(rows, lambda numbers: numbers)

    def over_epochs(self) -> Iterator[Piece]:
        rows = [(number, wall, number, over_epochs(metrics)) for number, wall, _, metrics in self.epochs]
        yield from self._by_tags(rows, thinned)

    def tested(self) -> Iterator[Piece]:
        values = {name: v[:, None].cpu().numpy() for name, v in self.stack.metrics.items() if name.startswith("test/")}
        if values:
            yield Points(np.array([time.time()]), self.last_step[:, None], values), lambda i: slice(None)

    def _by_tags(self, rows: Sequence[tuple], chosen: Callable[[Sequence[int]], Sequence[int]]) -> Iterator[Piece]:
        """Yield neighbouring epochs that have the same metrics as one piece.

        rows: (number of the epoch, wall time, step, metrics). chosen: returns those of a member's epochs that it shows.
        """
        numbers = [number for number, *_ in rows]
        shown = {last: set(chosen([n for n in numbers if n <= last])) for last in np.unique(self.last_epoch).tolist()}
        for tags, group in groupby(rows, lambda row: tuple(row[3])):
            of_group, times, steps, metrics = zip(*group, strict=True)
            values = {tag: torch.stack([m[tag] for m in metrics], -1).cpu().numpy() for tag in tags}
            places = {last: [k for k, n in enumerate(of_group) if n in these] for last, these in shown.items()}
            yield Points(np.array(times), np.array(steps), values), partial(self._places, places)

    def _places(self, places: Mapping[int, list[int]], i: int) -> list[int]:
        return places[self.last_epoch[i]]
