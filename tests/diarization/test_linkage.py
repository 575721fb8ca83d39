"""Our average linkage against SciPy's on the same distances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from fluidaudio_cli.diarization.speakers.linkage import average_linkage

Vectors = npt.NDArray[np.float32]


def voices(count: int, dimensions: int, seed: int) -> Vectors:
    """Unit vectors around five directions."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(5, dimensions))
    found = centres[random.integers(0, 5, count)] + 0.7 * random.normal(size=(count, dimensions))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found, np.float32)


def scipy_tree(vectors: Vectors) -> npt.NDArray[np.float64]:
    distance = 1.0 - (vectors @ vectors.T).astype(np.float64)
    np.fill_diagonal(distance, 0.0)
    tree: npt.NDArray[np.float64] = linkage(squareform(distance, checks=False), method="average")
    return tree


def same_partition(left: npt.NDArray[np.intp], right: npt.NDArray[np.intp]) -> bool:
    return len(set(zip(left.tolist(), right.tolist(), strict=True))) == len(set(left.tolist()))


@pytest.mark.parametrize(("count", "dimensions"), [(2, 3), (3, 8), (17, 8), (60, 16), (200, 192)])
@pytest.mark.parametrize("seed", range(3))
def test_merge_distances_and_partitions_are_scipys(count: int, dimensions: int, seed: int) -> None:
    vectors = voices(count, dimensions, seed)
    ours, theirs = average_linkage(vectors, np.ones(count)), scipy_tree(vectors)
    assert ours.distances == pytest.approx(theirs[:, 2], abs=1e-6)
    for clusters in {1, 2, 3, 5, count // 2, count}:
        if 1 <= clusters <= count:
            labels = ours.labels(clusters)
            assert len(set(labels.tolist())) == clusters
            expected = fcluster(theirs, clusters, "maxclust").astype(np.intp)
            assert same_partition(labels, expected)
            assert same_partition(expected, labels)


def test_number_of_clusters_at_a_threshold_is_scipys() -> None:
    vectors = voices(80, 16, 7)
    ours, theirs = average_linkage(vectors, np.ones(80)), scipy_tree(vectors)
    for threshold in (0.1, 0.3, 0.5, 0.7, 0.9, 1.1):
        expected = len(set(fcluster(theirs, threshold, "distance").tolist()))
        assert ours.clusters_below(threshold) == expected


def test_labels_are_numbered_by_appearance() -> None:
    vectors = np.array([[0, 1], [1, 0], [0.05, 1], [1, 0.05]], np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tree = average_linkage(vectors, np.ones(4))
    assert tree.labels(2).tolist() == [0, 1, 0, 1]
    assert tree.labels(4).tolist() == [0, 1, 2, 3]
    assert tree.labels(1).tolist() == [0, 0, 0, 0]


def test_weighted_items_are_the_voices_they_stand_for() -> None:
    """Merging what was merged before goes on exactly where the full clustering was."""
    vectors = voices(40, 16, 3)
    whole = average_linkage(vectors, np.ones(40))
    parts = whole.labels(12)
    sums = np.zeros((12, 16), np.float32)
    np.add.at(sums, parts, vectors)
    rest = average_linkage(sums, np.bincount(parts).astype(np.float64))
    assert rest.distances == pytest.approx(whole.distances[28:], abs=1e-5)
    for clusters in range(1, 12):
        assert same_partition(rest.labels(clusters)[parts], whole.labels(clusters))


def test_forbidden_pairs_count_as_unrelated() -> None:
    # Three equal voices; the first two are known to be different people.
    vectors = np.tile(np.array([[1.0, 0.0]], np.float32), (3, 1))
    free = average_linkage(vectors, np.ones(3))
    assert free.distances == pytest.approx([0.0, 0.0])
    held = average_linkage(vectors, np.ones(3), np.array([[0, 1]], np.intp))
    # 0 and 2 merge at 0; then 1 is at distance 1 from one of them and at 0 from the other.
    assert held.distances == pytest.approx([0.0, 0.5])
    assert held.labels(2).tolist() == [0, 1, 0]


def test_forbidden_pairs_further_apart_stay_there() -> None:
    vectors = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    assert average_linkage(vectors, np.ones(2), np.array([[0, 1]], np.intp)).distances == (
        pytest.approx([2.0])
    )


def test_one_item() -> None:
    tree = average_linkage(np.ones((1, 4), np.float32), np.ones(1))
    assert tree.labels(1).tolist() == [0]
    assert tree.clusters_below(0.5) == 1


def test_input_is_left_as_it_was() -> None:
    vectors, sizes = voices(10, 8, 0), np.ones(10)
    before = vectors.copy(), sizes.copy()
    average_linkage(vectors, sizes, np.array([[0, 1]], np.intp))
    assert np.array_equal(vectors, before[0])
    assert np.array_equal(sizes, before[1])
