"""From local speakers, window by window, to the speakers of the recording.

Voices with enough clean speech are clustered; every local speaker is then given to a cluster,
two speakers of one window never to the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.diarization.linkage import average_linkage
from fluidaudio_cli.errors import UsageError

Vectors = NDArray[np.float32]
Labels = NDArray[np.intp]


@dataclass(frozen=True)
class ClusteringRules:
    """Values of the mode file.

    ``threshold``: mean cosine distance at which merging stops. ``small_seconds`` and
    ``small_threshold``: a speaker heard for less than this must be further than that from all
    others, since a mean over little speech is uncertain. ``reliable_seconds``: voices
    with less clean speech than this are assigned, not clustered. ``reassign_passes``: how often
    all voices are given anew to the nearest centroid. ``exact_limit``: most voices clustered at
    once; more are first merged in parts of this size, up to ``part_threshold``, so that time
    and memory grow with the length and not its square.
    """

    threshold: float
    small_seconds: float
    small_threshold: float
    reliable_seconds: float
    reassign_passes: int
    exact_limit: int
    part_threshold: float


@dataclass(frozen=True)
class SpeakerBounds:
    """How many speakers a recording has, as far as the user knows; ``None`` where unknown."""

    exactly: int | None = None
    at_least: int | None = None
    at_most: int | None = None

    def __post_init__(self) -> None:
        """Refuse bounds that no recording can meet."""
        for name, value in (
            ("--num-speakers", self.exactly),
            ("--min-speakers", self.at_least),
            ("--max-speakers", self.at_most),
        ):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", "give a whole number of at least 1")
        if self.exactly is not None and not (self.at_least is None and self.at_most is None):
            raise UsageError(
                "--num-speakers excludes --min-speakers and --max-speakers", "give one of them"
            )
        if self.at_least and self.at_most and self.at_least > self.at_most:
            raise UsageError(
                f"--min-speakers {self.at_least} is more than --max-speakers {self.at_most}",
                "swap them",
            )

    def limit(self, found: int, available: int) -> int:
        """The number of speakers nearest to ``found`` within the bounds and the voices there."""
        wanted = self.exactly if self.exactly is not None else found
        wanted = max(wanted, self.at_least or 1)
        wanted = min(wanted, self.at_most or wanted)
        return min(wanted, available)


@dataclass(frozen=True)
class Voices:
    """All local speakers of a recording, in order of their windows.

    ``windows`` (n,) int: window of each. ``vectors`` (n, d) float32: unit length, or zero where
    a voice had too little clean speech. ``clean_seconds`` (n,) float64. ``looks``: how many
    windows see each moment, so that clean seconds divided by it are seconds of speech.
    """

    windows: NDArray[np.intp]
    vectors: Vectors
    clean_seconds: NDArray[np.float64]
    looks: float = 1.0

    @property
    def embedded(self) -> NDArray[np.bool_]:
        """Which voices have a vector."""
        return np.asarray(self.vectors.any(axis=1))


@dataclass(frozen=True)
class Clusters:
    """``labels`` (n,): speaker of each voice, -1 for none; ``centroids`` (k, d), unit length."""

    labels: Labels
    centroids: Vectors


def cluster(voices: Voices, rules: ClusteringRules, bounds: SpeakerBounds) -> Clusters:
    """Find the speakers and give each local speaker to one of them.

    A recording whose voices are all too short to embed has one speaker, with a centroid of
    zeros. Deterministic.
    """
    count = len(voices.windows)
    embedded = voices.embedded
    core = np.flatnonzero(embedded & (voices.clean_seconds >= rules.reliable_seconds))
    if core.size < (bounds.exactly or bounds.at_least or 1):
        core = np.flatnonzero(embedded)
    if not core.size:
        labels = np.full(count, -1, np.intp)
        _, first = np.unique(voices.windows, return_index=True)
        labels[first] = 0
        return Clusters(labels, np.zeros((min(count, 1), voices.vectors.shape[1]), np.float32))
    core_labels = _cluster_core(voices, core, rules, bounds)
    centroids = _centroids(voices, core, core_labels)
    fixed = np.full(count, -1, np.intp)
    fixed[core] = core_labels
    labels = _assign(voices, centroids, fixed)
    for _ in range(rules.reassign_passes):
        moved = _assign(voices, centroids, np.full(count, -1, np.intp))
        kept = moved[core] >= 0
        # A speaker that lost all its voices would vanish, and the count with it.
        if _distinct(moved[core][kept]) < len(centroids):
            break
        labels = moved
        centroids = _centroids(voices, core[kept], labels[core][kept])
    return Clusters(labels, centroids)


def _cluster_core(
    voices: Voices, core: NDArray[np.intp], rules: ClusteringRules, bounds: SpeakerBounds
) -> Labels:
    """Label of each reliable voice."""
    # Only reliable voices count; they are copied out in parts, not as a whole.
    sums, rows = voices.vectors, core
    sizes = np.ones(core.size)
    windows: NDArray[np.intp] | None = voices.windows[core]
    owner: Labels = np.arange(core.size)
    while len(rows) > rules.exact_limit:
        merged = _merge_parts(sums, rows, sizes, windows, rules)
        if _distinct(merged) > 0.9 * len(rows):
            # The voices do not condense at this distance; parts that are all different people
            # would never shrink, so that the nearest are merged regardless of it.
            merged = _merge_parts(sums, rows, sizes, windows, rules, force=True)
        sums, sizes = _sum_by(merged, sums, rows, sizes)
        rows = np.arange(len(sums))
        owner = merged[owner]
        windows = None
    sums = sums[rows]
    forbidden = None if windows is None else _same_window_pairs(windows)
    tree = average_linkage(sums, sizes, forbidden)
    clusters = bounds.limit(tree.clusters_below(rules.threshold), len(sums))
    labels = tree.labels(clusters)
    seconds = np.bincount(owner, weights=voices.clean_seconds[core]) / voices.looks
    return _absorb_small(labels, sums, sizes, seconds, rules, bounds)[owner]


def _distinct(labels: Labels) -> int:
    """How many different labels there are, all of them 0 or more."""
    # np.unique would import numpy.ma on its first call: 30 ms of a short run.
    return int(np.count_nonzero(np.bincount(labels)))


def _absorb_small(
    labels: Labels,
    sums: Vectors,
    sizes: NDArray[np.float64],
    seconds: NDArray[np.float64],
    rules: ClusteringRules,
    bounds: SpeakerBounds,
) -> Labels:
    """Merge speakers of little speech into a well-heard one they are not clearly apart from.

    Fragments come from speakers who speak much; of two that are both hardly heard neither says
    who the other is. ``seconds``: speech of each item. Fewer speakers than ``bounds`` asks for
    are never made.
    """
    fewest = bounds.exactly or bounds.at_least or 1
    while (count := int(labels.max()) + 1) > fewest:
        totals, weights = _sum_by(labels, sums, np.arange(len(sums)), sizes)
        means = totals / weights[:, None].astype(np.float32)
        distance = 1.0 - (means @ means.T).astype(np.float64)
        np.fill_diagonal(distance, np.inf)
        small = np.bincount(labels, weights=seconds, minlength=count) < rules.small_seconds
        distance[:, small] = np.inf
        nearest = distance.min(axis=1)
        nearest[~small] = np.inf
        speaker = int(nearest.argmin())
        if not nearest[speaker] < rules.small_threshold:
            break
        labels = np.where(labels == speaker, distance[speaker].argmin(), labels)
        labels = np.unique(labels, return_inverse=True)[1]
    return labels


def _merge_parts(
    sums: Vectors,
    rows: NDArray[np.intp],
    sizes: NDArray[np.float64],
    windows: NDArray[np.intp] | None,
    rules: ClusteringRules,
    force: bool = False,
) -> Labels:
    """Cluster consecutive parts of ``sums[rows]`` on their own; labels, numbered through."""
    labels = np.empty(len(rows), np.intp)
    used = 0
    for first in range(0, len(rows), rules.exact_limit):
        part = slice(first, first + rules.exact_limit)
        forbidden = None if windows is None else _same_window_pairs(windows[part])
        tree = average_linkage(sums[rows[part]], sizes[part], forbidden)
        clusters = tree.clusters_below(rules.part_threshold)
        if force:
            clusters = min(clusters, max(1, len(sizes[part]) // 2))
        labels[part] = tree.labels(clusters) + used
        used += clusters
    return labels


def _same_window_pairs(windows: NDArray[np.intp]) -> NDArray[np.intp]:
    """(m, 2) positions that share a window; ``windows`` is sorted, at most 3 share one."""
    pairs = []
    for gap in (1, 2):
        same = np.flatnonzero(windows[gap:] == windows[:-gap])
        pairs.append(np.stack([same, same + gap], axis=1))
    return np.concatenate(pairs)


def _sum_by(
    labels: Labels,
    vectors: Vectors,
    rows: NDArray[np.intp],
    sizes: NDArray[np.float64],
    weights: NDArray[np.float32] | None = None,
) -> tuple[Vectors, NDArray[np.float64]]:
    """Total vector of each label, of ``vectors[rows]`` times ``weights``, and total size."""
    count = int(labels.max()) + 1
    totals = np.zeros((count, vectors.shape[1]), np.float32)
    # In pieces: a copy of ten hours' vectors would be the largest array there is.
    for first in range(0, len(rows), _PIECE):
        part = slice(first, first + _PIECE)
        piece = vectors[rows[part]]
        if weights is not None:
            piece *= weights[part, None]
        np.add.at(totals, labels[part], piece)
    return totals, np.bincount(labels, weights=sizes, minlength=count).astype(np.float64)


def _centroids(voices: Voices, members: NDArray[np.intp], labels: Labels) -> Vectors:
    """Mean direction of each cluster, its voices weighted by their clean speech."""
    weights = voices.clean_seconds[members].astype(np.float32)
    totals, _ = _sum_by(labels, voices.vectors, members, np.ones(len(members)), weights)
    norms = np.linalg.norm(totals, axis=1, keepdims=True)
    return np.asarray(totals / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)


def _assign(voices: Voices, centroids: Vectors, fixed: Labels) -> Labels:
    """Nearest centroid of each voice, the voices of one window all to different ones.

    ``fixed`` keeps the label of a voice where it is not negative. A window with more voices
    than there are speakers leaves the worst match without one (-1).
    """
    similarity = (voices.vectors @ centroids.T).astype(np.float64)
    similarity[~voices.embedded] = _NO_EVIDENCE
    settled = np.flatnonzero(fixed >= 0)
    similarity[settled] = -_SETTLED
    similarity[settled, fixed[settled]] = _SETTLED
    labels: Labels = similarity.argmax(axis=1)
    starts = np.flatnonzero(np.r_[True, voices.windows[1:] != voices.windows[:-1]])
    for first, last in zip(starts, np.r_[starts[1:], len(labels)], strict=True):
        if last - first > 1 and len(set(labels[first:last].tolist())) < last - first:
            labels[first:last] = distinct_assignment(similarity[first:last])
    return labels


_PIECE = 1024
# Below any cosine, so that a voice without a vector takes what the others leave.
_NO_EVIDENCE = -2.0
# Beyond any sum of cosines, so that a label already decided is not traded away.
_SETTLED = 100.0


def distinct_assignment(similarity: NDArray[np.float64]) -> Labels:
    """Columns for the rows of ``similarity`` (r, k), all different, of the greatest sum.

    The best assignment of r rows uses only each row's r best columns, so that for the at most
    three voices of a window all combinations can be tried. With fewer columns than rows, the
    rows left over get -1.
    """
    rows, columns = similarity.shape
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :rows]
    choices: Sequence[Sequence[int]] = [list(row) for row in order]
    if columns < rows:
        choices = [[*row, -1] for row in choices]
    best: tuple[int, ...] = ()
    best_score = -np.inf
    for option in product(*choices):
        taken = [column for column in option if column >= 0]
        if len(set(taken)) < len(taken) or len(taken) < min(rows, columns):
            continue
        score = sum(similarity[row, column] for row, column in enumerate(option) if column >= 0)
        if score > best_score:
            best, best_score = option, score
    return np.array(best, np.intp)
