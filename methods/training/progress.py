"""What people see of a training while it runs."""

import sys
import time
from collections.abc import Callable
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

READ_SECONDS = 0.5  # how often the loss is fetched from the device
ANNOUNCE_SECONDS = 60.0  # a training longer than this says so at its start


class Progress:
    """A bar over `steps`, of which `done` are behind, with loss and speed; and one line for a long training.

    `batch_size`: images in a step.
    """

    def __init__(self, name: str, steps: int, done: int, batch_size: int) -> None:
        self._name, self._steps, self._batch_size = name, steps, batch_size
        self._announced = False
        self._timed = self._read_at = 0.0
        self._timed_from = -1
        self.bar: tqdm[Any] = tqdm(total=steps, initial=done, desc=name, unit="step", delay=2, dynamic_ncols=True)

    def watch(self, step: int, read: Callable[[], Tensor], place: int) -> None:
        """After `step` steps. `read()` gives this epoch's losses, that of the last step at `place`; a few readings a
        second at most, for each waits for the device."""
        now = time.monotonic()
        if self._timed_from < 0:  # the first step warms up and is not timed
            read()
            self._timed, self._timed_from, self._read_at = time.monotonic(), step, now
        elif now - self._read_at >= READ_SECONDS:
            losses, now = read(), time.monotonic()
            self._read_at = now
            seconds = (now - self._timed) / (step - self._timed_from)
            speed = f"{self._batch_size / seconds:,.0f} images/s"
            self.bar.set_postfix_str(f"loss {losses[place]:.4g}, {speed}", refresh=False)
            left = self._steps - step
            if not self._announced and (now - self._timed) >= 2 * READ_SECONDS:
                self._announced = True
                if seconds * left > ANNOUNCE_SECONDS:
                    message = f"training {self._name}: about {duration(seconds * left)} ({left:,} steps)"
                    tqdm.write(message, file=sys.stderr)
        self.bar.update(step - self.bar.n)


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
