"""Clusters of requests that ask the same, from their key terms alone.

Each request is a vector of its terms, weighted by how rare they are (TF-IDF). Up to `EXACT_MAX` of them are joined by
average linkage; more are first divided into blocks of like ones by k-means, joined within each block, and clusters of
different blocks with like centres made one. In the end every request belongs to the cluster whose centre is nearest, if
that is near enough; requests of the period before are assigned by the same rule, so that sizes can be compared.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering, MiniBatchKMeans
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import OneHotEncoder, normalize

from hub.issues.clusters import CASES_MIN, EXAMPLES_MAX, TERM_CASES_MIN, Cluster
from kuaixiang.text.terms import PAIR

APART_MAX: Final = 0.9
"""Cosine distance up to which clusters are joined, on the average of all their pairs; measured by `bench/texts.py`."""
NEAR_MIN: Final = 0.3
"""Cosine of a request with a cluster's centre from which on it belongs to it: the root of what that distance leaves."""
SAME_CENTRE_MAX: Final = 0.6
"""Cosine distance up to which centres from different blocks are of one cluster."""
EXACT_MAX: Final = 3_000
"""Requests joined at once: their distances take 36 MB, joining them a second."""
BLOCK: Final = 1_000
"""Requests of a block, about."""
LABEL_TERMS_MAX: Final = 8
ROWS_AT_ONCE: Final = 2_000
"""Requests compared with all centres at a time."""
_SEED: Final = 20190040
"""So that the same question has the same answer."""

Matrix = Any
"""A sparse matrix of SciPy, which has no types."""
Labels = NDArray[np.int64]
NONE: Final = -1
"""The label of what belongs to no cluster."""


def find_clusters(
    period: Sequence[Sequence[str]], before: Sequence[Sequence[str]], cases_min: int = CASES_MIN
) -> list[Cluster]:
    """The clusters of a period's requests, given by their terms, largest first; none smaller than `cases_min`."""
    vectorizer = TfidfVectorizer(analyzer=_itself, min_df=TERM_CASES_MIN, dtype=np.float32)
    try:
        vectors = vectorizer.fit_transform(period)
    except ValueError:  # no term occurs in two requests, or there are none
        return []
    centres = _centres(vectors)
    if centres is None:
        return []
    nearest, near = _assign(vectors, centres)
    counts_before = np.zeros(centres.shape[0], dtype=np.int64)
    if before:
        earlier, _ = _assign(vectorizer.transform(before), centres)
        counts_before += np.bincount(earlier[earlier != NONE], minlength=len(counts_before))
    names = vectorizer.get_feature_names_out()
    spread = np.asarray((vectors > 0).sum(axis=0)).ravel()
    found = []
    for label in np.unique(nearest[nearest != NONE]):
        members = np.flatnonzero(nearest == label)
        if len(members) >= max(cases_min, TERM_CASES_MIN):
            typical = members[np.argsort(-near[members], kind="stable")]
            terms = _label(vectors[members], names, spread, vectors.shape[0])
            found.append(
                Cluster(
                    tuple(map(int, members)),
                    int(counts_before[label]),
                    terms,
                    tuple(map(int, typical[: EXAMPLES_MAX * 3])),
                )
            )
    return sorted(found, key=lambda cluster: (-len(cluster.members), cluster.members))


def _itself(terms: Sequence[str]) -> Sequence[str]:
    return terms


def _centres(vectors: Matrix) -> Matrix | None:
    """The centres of the clusters of two and more, as unit vectors; None when there are none."""
    blocks = _blocks(vectors, np.arange(vectors.shape[0]))
    labels = np.full(vectors.shape[0], NONE, dtype=np.int64)
    used = 0
    for block in blocks:
        joined = _join(vectors[block], APART_MAX)
        labels[block] = joined + used
        used += int(joined.max()) + 1
    centres = _means(vectors, labels)
    if centres is not None and len(blocks) > 1 and 1 < centres.shape[0] <= EXACT_MAX * 2:
        sizes_do_not_matter = _join(centres, SAME_CENTRE_MAX)
        return _means(centres, sizes_do_not_matter, least=1)
    return centres


def _blocks(vectors: Matrix, rows: Labels) -> list[Labels]:
    """Rows in blocks that can be joined at once, like ones together."""
    if len(rows) <= EXACT_MAX:
        return [rows]
    kmeans = MiniBatchKMeans(-(-len(rows) // BLOCK), random_state=_SEED, n_init=1, batch_size=4_096, max_iter=20)
    labels = kmeans.fit_predict(vectors[rows])
    parts = [rows[labels == label] for label in np.unique(labels)]
    if max(map(len, parts)) == len(rows):  # all alike: any division is as good
        parts = np.array_split(rows, -(-len(rows) // EXACT_MAX))
    return [block for part in parts for block in _blocks(vectors, part)]


def _join(vectors: Matrix, apart_max: float) -> Labels:
    """Labels by average linkage, from 0."""
    if vectors.shape[0] == 1:
        return np.zeros(1, dtype=np.int64)
    apart = np.clip(1 - (vectors @ vectors.T).toarray(), 0, None)
    np.fill_diagonal(apart, 0)
    joining = AgglomerativeClustering(
        n_clusters=None, distance_threshold=apart_max, metric="precomputed", linkage="average"
    )
    found: Labels = joining.fit_predict(apart)
    return found


def _means(vectors: Matrix, labels: Labels, least: int = TERM_CASES_MIN) -> Matrix | None:
    """The mean of each label's vectors, as unit vectors, of those with so many; None when there are none."""
    of_label = OneHotEncoder(dtype=np.float32).fit_transform(labels.reshape(-1, 1))
    sizes = np.asarray(of_label.sum(axis=0)).ravel()
    wanted = np.flatnonzero(sizes >= least)
    return normalize((of_label.T @ vectors)[wanted]) if len(wanted) else None


def _assign(vectors: Matrix, centres: Matrix) -> tuple[Labels, NDArray[np.float32]]:
    """Of each vector the nearest centre, `NONE` when that is too far, and the cosine with it."""
    nearest = np.full(vectors.shape[0], NONE, dtype=np.int64)
    near = np.zeros(vectors.shape[0], dtype=np.float32)
    across = centres.T.tocsr()
    for start in range(0, vectors.shape[0], ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        cosines = (vectors[rows] @ across).toarray()
        near[rows] = cosines.max(axis=1)
        nearest[rows] = np.where(near[rows] >= NEAR_MIN, cosines.argmax(axis=1), NONE)
    return nearest, near


def _label(members: Matrix, names: NDArray[Any], spread: NDArray[Any], cases: int) -> tuple[str, ...]:
    """The terms that tell a cluster from the others: frequent in it, rare elsewhere (c-TF-IDF)."""
    within = np.asarray((members > 0).sum(axis=0)).ravel()
    weights = np.where(within >= TERM_CASES_MIN, within / members.shape[0] * np.log1p(cases / np.maximum(spread, 1)), 0)
    chosen: list[str] = []
    words: set[str] = set()
    for place in np.argsort(-weights, kind="stable"):
        if not weights[place] or len(chosen) == LABEL_TERMS_MAX:
            break
        term = str(names[place])
        parts = set(term.split(PAIR))
        if not parts <= words:
            chosen.append(term)
            words |= parts
    return tuple(chosen)
