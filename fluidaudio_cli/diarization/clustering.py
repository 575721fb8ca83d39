"""Rules of a clustering that is gone; the modes still hold them."""

from __future__ import annotations

from dataclasses import dataclass


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
