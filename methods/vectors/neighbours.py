"""Exact nearest neighbours: candidates from a fast form of the distance, and of these the distance itself.

Fast forms, |a|^2 + |b|^2 - 2ab in float32, are off by rounding, which hides what lies closer together than that. So
more candidates are taken than asked for, their distances computed from the rows in float64, and the outcome is kept
only where no row that was left out can be as near; elsewhere more candidates are taken, in the end all rows.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.device.precision import switches
from methods.vectors.statistics import means

EXTRA = 8  # candidates beyond those asked for
BLOCK = 64 << 20  # bytes of distances in hand at a time
CLOSE = 1 << 20  # bytes of rows that distances are computed from: what stays in a core's cache
BLAS_QUERIES = 4  # from so many images on, matrices are multiplied: 5 times as fast for 64 images of 512 numbers
# From so many numbers on what counts is the product, in which torch's library is as fast as the one that faiss comes
# with (AVX2), or 2 to 4 times as fast (AVX-512). Of narrower rows faiss picks the nearest while they are still at hand,
# which of few rows takes it 3 times as long as to pick them afterwards.
WIDE = 128
OVERFLOW = 1e32  # an error from which on float32 may not hold the squares; NaN and infinity have none below it
GROUPS = 10  # values in a group from which on groups are worth their while
FAR = 4  # as many times the rows' own spread, squared: farther from the origin they are searched about their mean


def neighbours(bank: Tensor, device: str | torch.device | None = None) -> "Neighbours":
    """The rows of `bank` (M, D) float32, to be searched on `device` (default: where they are).

    Candidates come from a matrix product, or on the CPU from faiss, where it is installed and no slower: see `WIDE`. A
    bank of more than half of the GPU's free memory stays where it is and goes there in parts.
    """
    return Neighbours(bank, torch.device(bank.device if device is None else device))


class Neighbours:
    """Rows (M, D) and the search for those nearest to an image, Euclidean."""

    def __init__(self, bank: Tensor, device: torch.device) -> None:
        self._device = device
        whole = _fits(bank, device)
        self.rows = (bank.to(device) if whole else bank).float().contiguous()
        self._part = len(bank) if whole else max(1, BLOCK // (4 * bank.shape[1]))
        centre = means(self.rows, device=str(device))
        lengths = self._lengths(self.rows)
        about = float(centre.square().sum())
        far = about > FAR * (float(lengths.square().mean()) - about)
        self._centre = centre.float().to(self.rows.device) if far else None
        self._near = self.rows - self._centre if self._centre is not None else self.rows
        lengths = self._lengths(self._near) if far else lengths
        self._longest = float(lengths.max())
        self._squares = lengths.square_().float().to(device)

    def __len__(self) -> int:
        return len(self.rows)

    def search(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances (N, k) float64 and index (N, k) int64 of each image's k nearest rows, on the device of `x` (N, D).

        Ascending by (exact distance, index). ValueError where there are no k rows.
        """
        return self._places(x, 0, k)

    def kth(self, x: Tensor, k: int) -> Tensor:
        """The distance (N,) of each image to its k-th nearest row alone: what is surely nearer is not computed."""
        few = self._device.type == "cpu" and 1 <= k <= len(self) and not _in_groups(len(self), k)
        if not few:
            return self._places(x, k - 1, k)[0][:, 0]
        with torch.no_grad(), switches("32", "cpu"):
            found = [self._kth_of_few(block, k) for block in torch.split(x.cpu().float(), BLOCK // (8 * len(self)) + 1)]
        return torch.cat(found).to(x.device)

    def _kth_of_few(self, x: Tensor, k: int) -> Tensor:
        """All squares of the fast form are at hand, and their k-th is off by no more than they are.

        So what is farther from it than two errors is not the k-th.
        """
        centred = x if self._centre is None else x - self._centre
        error = 2 * self._error(centred)[:, None].numpy()
        if not (error < OVERFLOW).all():
            return self._places(x, k - 1, k)[0][:, 0]
        squares = torch.addmm(self._squares, centred, self._near.T, alpha=-2).numpy()
        kth = np.partition(squares, k - 1, axis=1)[:, k - 1, None]
        low, high = (np.float32(kth - error), np.float32(kth + error))
        nearer = squares < low
        images, rows = np.divmod(np.flatnonzero(nearer ^ (squares <= high)), len(self))
        distances = self._between(x, torch.from_numpy(images), torch.from_numpy(rows))
        first = np.searchsorted(images, np.arange(len(x)))
        return distances[np.lexsort((distances, images))[first + k - 1 - np.count_nonzero(nearer, axis=1)]]

    def _between(self, x: Tensor, images: Tensor, rows: Tensor) -> Tensor:
        """The distance (n,) of each of these `images` (n,) to the row (n,) beside it."""
        parts = (torch.split(of, max(1, CLOSE // (8 * x.shape[1]))) for of in (images, rows))
        return torch.cat([self._lengths(self.rows[b].double() - x[a]) for a, b in zip(*parts, strict=True)])

    def _places(self, x: Tensor, first: int, k: int) -> tuple[Tensor, Tensor]:
        if not 0 <= first < k <= len(self):
            raise ValueError(f"k is {k}; there are {len(self)} rows to be near to")
        with torch.no_grad(), switches("32", str(self._device)):
            distances, index = self._search(x.to(self._device).float(), first, k, EXTRA)
        return distances.to(x.device), index.to(x.device)

    def _search(self, x: Tensor, first: int, k: int, extra: int) -> tuple[Tensor, Tensor]:
        """Places `first` to k - 1 of each image, from the candidates around these."""
        low, high = max(0, first - extra), min(len(self), k + extra)
        found = []
        for block in torch.split(x, max(1, BLOCK // (8 * high))):
            centred = block if self._centre is None else block - self._centre.to(block.device)
            squares, candidates = self._candidates(centred, high)
            distances, index = self._exact(block, candidates[:, low:])
            distances, index = distances[:, first - low : k - low], index[:, first - low : k - low]
            error = self._error(centred)
            unsure = torch.zeros(len(block), dtype=torch.bool, device=block.device)
            if low:
                unsure |= squares[:, low - 1] + error >= distances[:, 0].square()
            if high < len(self):
                unsure |= squares[:, -1] - error <= distances[:, -1].square()
            again = (unsure & distances.isfinite().all(dim=1)).nonzero()[:, 0]
            if len(again):
                distances[again], index[again] = self._search(block[again], first, k, 8 * extra)
            found.append((distances, index))
        if not found:
            return x.new_empty((0, k - first), dtype=torch.float64), x.new_empty((0, k - first), dtype=torch.int64)
        distances, index = (torch.cat(parts) for parts in zip(*found, strict=True))
        return distances, index

    def _error(self, centred: Tensor) -> Tensor:
        """How far a square of the fast form may be off (N,): D roundings add up as random ones, to 8 deviations."""
        size = centred.shape[1]
        lengths = self._lengths(centred) + self._longest
        return 8 * math.sqrt(size) * torch.finfo(torch.float32).eps / 2 * lengths.square()

    @staticmethod
    def _lengths(rows: Tensor) -> Tensor:
        blocks = torch.split(rows, max(1, BLOCK // (8 * rows.shape[1])))
        return torch.cat([torch.linalg.vector_norm(block, dim=1, dtype=torch.float64) for block in blocks])

    def _candidates(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Squared distances as the fast form has them, ascending, and index (N, count) of so many rows."""
        narrow = x.shape[1] < WIDE and _in_groups(len(self), count)
        if x.device.type == "cpu" and (narrow or len(x) < BLAS_QUERIES) and (faiss := _faiss(x.shape[1])) is not None:
            squares, index = faiss.knn(x.numpy(), self._near.numpy(), count)
            # faiss finds no neighbour of NaN
            return torch.from_numpy(squares).double(), torch.from_numpy(index).clamp_(min=0)
        # blocks whose distances to one part have room: a bank that is elsewhere goes by for each of them
        blocks = torch.split(x, max(1, BLOCK // (4 * min(self._part, len(self)))))
        found = [self._products(block, count) for block in blocks]
        squares, index = (torch.cat(parts) for parts in zip(*found, strict=True))
        return squares.double() + x.double().square().sum(dim=1, keepdim=True), index

    def _products(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """|b|^2 - 2xb and index of the `count` rows b for which it is least: in parts, if they are elsewhere."""
        best, index = x.new_empty((len(x), 0)), x.new_empty((len(x), 0), dtype=torch.int64)
        for start in range(0, len(self), self._part):
            part = self._near[start : start + self._part].to(x.device)
            squares = torch.addmm(self._squares[start : start + len(part)], x, part.T, alpha=-2)
            nearest, places = _least(squares, min(count, len(part)))
            best, index = torch.cat([best, nearest], dim=1), torch.cat([index, places + start], dim=1)
            best, order = best.topk(min(count, best.shape[1]), dim=1, largest=False)
            index = index.gather(1, order)
        return best, index

    def _exact(self, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (N, n) of each image to the rows that `index` (N, n) names, ascending by (distance, index)."""
        index = index.sort(dim=1).values
        room = CLOSE if x.device.type == "cpu" else BLOCK
        columns = max(1, min(index.shape[1], room // (8 * x.shape[1])))
        rows = max(1, room // (8 * x.shape[1] * columns))
        distances = torch.empty(index.shape, dtype=torch.float64, device=x.device)
        for start in range(0, len(x), rows):
            for place in range(0, index.shape[1], columns):
                part = slice(start, start + rows), slice(place, place + columns)
                places = index[part].to(self.rows.device)
                # four times as fast as to index by `places` itself
                there = self.rows.index_select(0, places.flatten()).view(*places.shape, -1).to(x.device).double()
                distances[part] = torch.linalg.vector_norm(there.sub_(x[part[0], None]), dim=2)
        distances, order = distances.sort(dim=1, stable=True)
        return distances, index.gather(1, order)


def _least(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` least of each row, in any order, and their columns.

    On a CPU columns are taken in groups: those `count` groups whose least value is least hold all of them. So it goes
    through most values once, for that least value. A GPU picks faster than it would gather.
    """
    if values.is_cuda:
        return values.topk(count, dim=1, largest=False)
    columns = values.shape[1]
    if not _in_groups(columns, count):
        places = torch.from_numpy(np.argpartition(values.numpy(), count - 1, axis=1)[:, :count])
        return values.gather(1, places), places
    size = math.isqrt(columns // count)
    groups = columns // size
    least = values[:, : size * groups].view(len(values), size, groups).amin(dim=1)
    chosen = least.topk(count, dim=1, largest=False, sorted=False).indices
    among = (chosen[:, None] + groups * torch.arange(size)[:, None]).flatten(1)
    rest = torch.arange(size * groups, columns).expand(len(values), -1)
    among = torch.cat([among, rest], dim=1)
    nearest, places = values.gather(1, among).topk(count, dim=1, largest=False)
    return nearest, among.gather(1, places)


def _in_groups(columns: int, count: int) -> bool:
    """Whether there are so many columns for each of the least ones that they are better taken in groups."""
    return columns >= GROUPS**2 * count


def _fits(bank: Tensor, device: torch.device) -> bool:
    """Whether a GPU has room for two of the bank: for the rows, and for these about their mean."""
    return device.type != "cuda" or 8 * bank.numel() <= torch.cuda.mem_get_info(device)[0]


def _faiss(width: int) -> Any:
    """faiss, set to multiply matrices of this width; None where it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    # its own bound, 250 images of 512 numbers, leaves usual batches to the loop for single queries
    faiss.cvar.distance_compute_blas_threshold = min(faiss.cvar.distance_compute_blas_threshold, BLAS_QUERIES * width)
    return faiss
