"""Counts of many points at once, of which only those above zero take room.

An image of 150 classes shows a dozen of them, an image of a classifier one: dense counts of a full grid would
take gigabytes where these take a few hundred megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

KINDS = 3  # tp, fp, fn


@dataclass(frozen=True, eq=False)
class Counts:
    """tp, fp and fn of every point, image and class, ``(points, images, classes, 3)``.

    Args:
        rows: a point in each row, ``(points, images · classes · 3)``.
        classes: how many classes there are.
    """

    rows: sparse.csr_array
    classes: int

    @classmethod
    def of(cls, dense: NDArray[Any]) -> Counts:
        """Keep dense counts ``(points, images, classes, 3)``."""
        points, images, classes, kinds = dense.shape
        return cls(sparse.csr_array(dense.reshape(points, images * classes * kinds)), classes)

    @classmethod
    def beside(cls, parts: Sequence[Counts]) -> Counts:
        """Put the images of several counts of the same points beside each other."""
        rows = sparse.hstack([part.rows for part in parts], format="csr")
        return cls(rows, parts[0].classes)

    @classmethod
    def below(cls, parts: Sequence[Counts]) -> Counts:
        """Put the points of several counts of the same images below each other."""
        rows = sparse.vstack([part.rows for part in parts], format="csr")
        return cls(rows, parts[0].classes)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Points, images, classes, 3."""
        points, columns = self.rows.shape
        return points, columns // (self.classes * KINDS), self.classes, KINDS

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    def __getitem__(self, point: int) -> NDArray[Any]:
        """Return one point's counts, dense ``(images, classes, 3)``."""
        dense: NDArray[Any] = self.rows[[point]].toarray().reshape(self.shape[1:])
        return dense

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[point] for point in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        dense: NDArray[Any] = self.rows.toarray().reshape(self.shape)
        return dense  # NumPy sees to the type

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what a file keeps of the counts, in the smallest integers that hold them."""
        largest = int(self.rows.data.max(initial=0))
        return {
            "values": self.rows.data.astype(np.min_scalar_type(largest)),
            "columns": self.rows.indices,
            "starts": self.rows.indptr,
            "shape": np.asarray([*self.rows.shape, self.classes]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Counts:
        """Return the counts that :meth:`arrays` took apart.

        Raises:
            ValueError: if the arrays do not fit together.
        """
        points, columns, classes = (int(number) for number in arrays["shape"])
        parts = (arrays["values"].astype(np.int32), arrays["columns"], arrays["starts"])
        rows = sparse.csr_array(parts, shape=(points, columns))
        rows.check_format()
        return cls(rows, classes)

    def take(self, points: Sequence[int]) -> Counts:
        """Return the counts of some points, in the order given."""
        return Counts(self.rows[list(points)], self.classes)

    def images(self, places: Sequence[int] | NDArray[np.intp]) -> Counts:
        """Return the counts of some images, in the order given."""
        width = self.classes * KINDS
        columns = (np.asarray(places, dtype=np.intp)[:, None] * width + np.arange(width)).ravel()
        return Counts(self.rows[:, columns], self.classes)

    def grouped(self, groups: NDArray[np.intp]) -> Counts:
        """Sum the images of each group, whose numbers from 0 on stand in their places."""
        width = self.classes * KINDS
        image, within = np.divmod(self.rows.indices, width)
        parts = (self.rows.data.astype(np.int64), groups[image] * width + within, self.rows.indptr)
        rows = sparse.csr_array(parts, shape=(len(self), (int(groups.max(initial=-1)) + 1) * width))
        rows.sum_duplicates()
        return Counts(rows, self.classes)

    def total(self) -> NDArray[np.int64]:
        """Sum over the images: ``(points, classes, 3)``."""
        _, images, classes, kinds = self.shape
        size = classes * kinds
        return self._summed(np.tile(np.arange(size), images), size).reshape(-1, classes, kinds)

    def right(self) -> NDArray[np.int64]:
        """Sum the true positives of each image: ``(points, images)``."""
        _, images, classes, kinds = self.shape
        bins = np.repeat(np.arange(images), classes * kinds).reshape(images, classes, kinds)
        bins[..., 1:] = images
        return self._summed(bins.ravel(), images + 1)[:, :images]

    def _summed(self, bins: NDArray[Any], size: int) -> NDArray[np.int64]:
        """Sum each row's columns into so many bins."""
        sums = np.zeros((len(self), size), dtype=np.int64)
        for row, (start, stop) in enumerate(zip(self.rows.indptr, self.rows.indptr[1:], strict=False)):
            where = bins[self.rows.indices[start:stop]]
            # As floating point the sums are exact below 2^53.
            sums[row] = np.bincount(where, self.rows.data[start:stop], minlength=size)
        return sums
