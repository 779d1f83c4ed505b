"""The low-rank part of a large matrix that is read in blocks: a seeded randomised decomposition.

The matrix has at least as many rows as columns. It is passed over a few times, a block of rows each, and needs no more
memory than a block and a few columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch

OVERSAMPLED = 16
"""Columns beyond the rank, so that the last ones that are kept are good."""
POWERS = 2
"""Multiplications with the matrix and its transpose before the decomposition; each sharpens the large values."""
SEED = 0


class Blocks(Protocol):
    """A float32 matrix (rows, columns), rows >= columns. Each iteration yields all blocks of rows with their places."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def __iter__(self) -> Iterator[tuple[slice, torch.Tensor]]: ...


class LowRank(NamedTuple):
    """left (rows, k) * values (k), falling @ right (k, columns)."""

    left: torch.Tensor
    values: torch.Tensor
    right: torch.Tensor

    def halves(self, rank: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, rank) and (rank, columns), whose product is the best of this rank; the values are shared evenly."""
        root = self.values[:rank].sqrt()
        return (self.left[:, :rank] * root).to(dtype), (root[:, None] * self.right[:rank]).to(dtype)


def decompose(matrix: Blocks, rank: int) -> LowRank:
    """The largest singular values and their vectors, at most `rank` of them; exact if `rank` is the number of columns.

    Values that are zero but for rounding are left out.
    """
    import torch

    rows, columns = matrix.shape
    width = min(rank + OVERSAMPLED, columns)
    basis = torch.eye(columns)
    if width < columns:
        basis = torch.randn(columns, width, generator=torch.Generator().manual_seed(SEED))
        for _ in range(POWERS):
            total = torch.zeros(columns, width)
            for _, block in matrix:
                total += block.T @ (block @ basis)
            basis = torch.linalg.qr(total).Q
    seen = torch.empty(rows, width)
    for place, block in matrix:
        seen[place] = block @ basis
    left, values, right = torch.linalg.svd(seen, full_matrices=False)
    least = float(values[0]) * columns**0.5 * torch.finfo(torch.float32).eps
    kept = min(rank, int((values > least).sum()))
    return LowRank(left[:, :kept].clone(), values[:kept].clone(), right[:kept] @ basis.T)


def distance(matrix: Blocks, left: torch.Tensor, right: torch.Tensor) -> float:
    """The Frobenius norm of matrix - left @ right."""
    right = right.float()
    return math.sqrt(sum(_square(block - left[place].float() @ right) for place, block in matrix))


def norm(matrix: Blocks) -> float:
    """The Frobenius norm."""
    return math.sqrt(sum(_square(block) for _, block in matrix))


def _square(block: torch.Tensor) -> float:
    import torch

    return float(torch.linalg.vector_norm(block, dtype=torch.float64)) ** 2
