"""Average-linkage agglomerative clustering of unit vectors, from cluster sums.

For unit vectors the mean cosine distance between two clusters is one minus the product of
their mean vectors, so that a cluster is its sum and its size, whatever it holds. That makes the
method exact for weighted items too, and lets a long recording be clustered in parts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Dendrogram(NamedTuple):
    """The merges of n items, nearest first.

    ``pairs``: (n - 1, 2) item numbers; each merge folds the second's cluster into the first's.
    ``distances``: (n - 1,) mean cosine distance at each merge; it never falls.
    """

    pairs: NDArray[np.intp]
    distances: NDArray[np.float64]

    def labels(self, clusters: int) -> NDArray[np.intp]:
        """Cluster of each item when merging stops at ``clusters``, in order of appearance."""
        items = len(self.pairs) + 1
        parent = np.arange(items)
        for kept, folded in self.pairs[: items - clusters]:
            parent[parent == folded] = kept
        _, first, inverse = np.unique(parent, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[inverse]

    def clusters_below(self, threshold: float) -> int:
        """How many clusters remain when merging stops before ``threshold``."""
        return len(self.pairs) + 1 - int(np.count_nonzero(self.distances <= threshold))


def average_linkage(
    sums: NDArray[np.float32],
    sizes: NDArray[np.float64],
    forbidden: NDArray[np.intp] | None = None,
) -> Dendrogram:
    """Merge the nearest two clusters until one is left (UPGMA; Sokal and Michener, 1958).

    ``sums`` (n, d): per item the sum of its unit vectors, ``sizes`` (n,): how many those are.
    ``forbidden`` (m, 2): pairs of items known to differ; they count as at least at distance 1,
    that of unrelated voices. Time and memory grow with the square of n.
    """
    count = len(sums)
    means = sums / sizes[:, None].astype(np.float32)
    distance = 1.0 - (means @ means.T).astype(np.float64)
    if forbidden is not None and len(forbidden):
        left, right = forbidden.T
        apart = np.maximum(distance[left, right], 1.0)
        distance[left, right] = apart
        distance[right, left] = apart
    np.fill_diagonal(distance, np.inf)
    weights = sizes.astype(np.float64).copy()
    nearest = distance.argmin(axis=1)
    shortest = distance[np.arange(count), nearest]
    pairs = np.empty((max(count - 1, 0), 2), np.intp)
    merged_at = np.empty(max(count - 1, 0))
    for step in range(count - 1):
        kept = int(shortest.argmin())
        folded = int(nearest[kept])
        if folded < kept:
            kept, folded = folded, kept
        merged_at[step] = distance[kept, folded]
        pairs[step] = kept, folded
        # Lance and Williams' update for average linkage.
        total = weights[kept] + weights[folded]
        row = (weights[kept] * distance[kept] + weights[folded] * distance[folded]) / total
        weights[kept] = total
        row[[kept, folded]] = np.inf
        distance[kept], distance[:, kept] = row, row
        distance[folded], distance[:, folded] = np.inf, np.inf
        shortest[folded] = np.inf
        nearest[kept], shortest[kept] = row.argmin(), row.min()
        closer = row < shortest
        nearest[closer], shortest[closer] = kept, row[closer]
        stale = np.flatnonzero(((nearest == kept) | (nearest == folded)) & np.isfinite(shortest))
        for item in stale:
            if item != kept:
                nearest[item] = distance[item].argmin()
                shortest[item] = distance[item, nearest[item]]
    return Dendrogram(pairs, merged_at)
