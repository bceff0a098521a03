"""Blocks of sixty samples: compared, merged, and packed for the disk."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from monitor.model.series import Samples

SAMPLES = 60  # in a block

Block = NDArray[np.float32]  # (pools, 2, SAMPLES): equity and requirement, NaN unknown


def empty(pools: int) -> Block:
    return np.full((pools, 2, SAMPLES), np.nan, np.float32)


def worse(one: Samples, other: Samples) -> NDArray[np.bool_]:
    """Where `one` is nearer to liquidation, or the other is unknown. (…, 2, n): equity and requirement; the answer is (…, 1, n).

    Multiplied out: with nothing required there is no health, and an equity below 0 is the worst.
    """
    a, b = one.astype(np.float64), other.astype(np.float64)
    nearer = a[..., :1, :] * b[..., 1:, :] < b[..., :1, :] * a[..., 1:, :]
    return (nearer | np.isnan(b[..., :1, :])) & ~np.isnan(a[..., :1, :])


def merged(old: Block, new: Block) -> Block:
    """Two parts of the same blocks, (…, 2, SAMPLES): the worse where both know."""
    return np.where(worse(new, old), new, old)


def worst_of_each(samples: Samples) -> Samples:
    """(2, n, k) → (2, n): of each k samples the one with the worst health; unknown only where all are."""
    worst = samples[:, :, 0]
    for i in range(1, samples.shape[2]):
        worst = merged(worst, samples[:, :, i])
    return worst


def packed(values: Block) -> Iterator[bytes]:
    """Rounded to 16 bits of precision; like bytes side by side, which halves what zlib makes of it."""
    bits = (values.astype("<f4").view(np.uint32) + np.uint32(0x80)) & np.uint32(0xFFFFFF00)
    planes = bits.reshape(len(values), -1, 1).view(np.uint8).transpose(0, 2, 1)
    return (zlib.compress(plane.tobytes(), 1) for plane in planes)


def unpacked(rows: Sequence[bytes]) -> Block:
    whole = np.frombuffer(b"".join(_planes(row) for row in rows), np.uint8)
    samples = np.ascontiguousarray(whole.reshape(len(rows), 4, -1).transpose(0, 2, 1)).view("<f4")
    return samples.reshape(len(rows), 2, SAMPLES)


def _planes(row: bytes) -> bytes:
    """A row that is no block of ours is a gap, not the end of the chart."""
    try:
        planes = zlib.decompress(row)
    except zlib.error:
        planes = b""
    return planes if len(planes) == 2 * SAMPLES * 4 else zlib.decompress(next(packed(empty(1))))
