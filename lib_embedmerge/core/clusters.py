"""Hierarchical clustering of a few things by the distances between them, with complete linkage.

Two clusters are as far apart as their two farthest members, so that all members of a cluster are within its height of
each other. The closest two are joined first; of equally close ones the earliest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy


@dataclass(frozen=True)
class Cluster:
    """Things that belong together. members: their indices, in order.  height: the largest distance between two.

    parts: the two clusters that it was joined of; empty for a single thing.
    """

    members: tuple[int, ...]
    height: float = 0.0
    parts: tuple[Cluster, ...] = ()


def join_all(distances: numpy.ndarray) -> Cluster:
    """The tree of all things. distances: symmetric, [n, n] with n of at least 1."""
    clusters = [Cluster((index,)) for index in range(len(distances))]
    while len(clusters) > 1:
        pairs = [(left, right) for place, left in enumerate(clusters) for right in clusters[place + 1 :]]
        left, right = min(pairs, key=lambda pair: _find_height(distances, *pair))  # min takes the earliest of equals
        members = tuple(sorted(left.members + right.members))
        joined = Cluster(members, _find_height(distances, left, right), (left, right))
        clusters = sorted([joined, *(one for one in clusters if one not in (left, right))], key=lambda one: one.members)
    return clusters[0]


def cut(tree: Cluster, limit: float) -> list[Cluster]:
    """The largest clusters of a tree whose height is at most `limit`, by their first members."""
    if tree.height <= limit or not tree.parts:
        return [tree]
    found = [cluster for part in tree.parts for cluster in cut(part, limit)]
    return sorted(found, key=lambda cluster: cluster.members)


def find_medoid(distances: numpy.ndarray, members: Sequence[int]) -> int:
    """The member whose farthest fellow is closest; of equal ones the one with the smallest sum, then the earliest."""
    within = distances[numpy.ix_(members, members)]
    return min(zip(within.max(axis=1).tolist(), within.sum(axis=1).tolist(), members, strict=True))[2]


def _find_height(distances: numpy.ndarray, left: Cluster, right: Cluster) -> float:
    return float(distances[numpy.ix_(left.members, right.members)].max())
