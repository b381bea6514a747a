"""The rows, the queries, and how recall is counted."""

import numpy

K = 10
BLOCK = 100
QUERIES = 1_000


class Unusable(Exception):
    """The data or an option cannot be used; the text says why."""


class Rows:
    """A data set as every engine gets it: float32, of unit length where the metric is the cosine."""

    def __init__(self, folder, metric, base, queries, truth):
        self.folder, self.metric = folder, metric
        self.base, self.queries = prepared(base, metric), prepared(queries, metric)
        self.count, self.dimensions = self.base.shape
        self.truth = truth
        self.worst = worst(self.distances(truth[:, :K]))

    def distances(self, ids, queries=None):
        """Exact distances of each query to its rows; infinite where an id is none (-1)."""
        queries = range(len(ids)) if queries is None else queries
        found = numpy.full(ids.shape, numpy.inf)
        for line, query in enumerate(queries):
            real = (ids[line] >= 0) & (ids[line] < self.count)
            found[line, real] = exact(self.base[ids[line, real]], self.queries[query], self.metric)
        return found

    def recall(self, ids, queries=None, worst_allowed=None, wanted=None):
        """The share of the nearest K that was found. A row as near as the K-th counts as found, so
        that it does not matter which of several equal rows an engine returns."""
        worst_allowed = self.worst if worst_allowed is None else worst_allowed
        wanted = numpy.full(len(ids), K) if wanted is None else wanted
        ids = without_repeats(ids)
        hits = (self.distances(ids, queries) <= worst_allowed[:, None]).sum(axis=1)
        return float((numpy.minimum(hits, wanted) / wanted).mean())


def prepared(rows, metric):
    rows = numpy.ascontiguousarray(rows, dtype=numpy.float32)
    if metric == "cosine":
        lengths = numpy.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / numpy.maximum(lengths, numpy.finfo(numpy.float32).tiny)
    return rows


def exact(rows, query, metric):
    rows, query = rows.astype(numpy.float64), query.astype(numpy.float64)
    if metric == "euclidean":
        return numpy.square(rows - query).sum(axis=1)
    return -(rows @ query)


def nearest(base, queries, metric, masks=None):
    """Row numbers of each query's K nearest, best first; -1 where fewer rows are allowed.
    `masks` is a function of a query's number: True for each row that it may find."""
    found = numpy.full((len(queries), K), -1, dtype=numpy.int64)
    some = min(K + 20, len(base))
    lengths = numpy.square(base).sum(axis=1) / 2 if metric == "euclidean" else 0
    for first in range(0, len(queries), BLOCK):
        scores = queries[first : first + BLOCK] @ base.T - lengths
        for line, row in enumerate(scores, first):
            if masks is not None:
                row[~masks(line)] = -numpy.inf
            # More than are wanted, as these products are rounded.
            likely = numpy.argpartition(-row, some - 1)[:some]
            likely = likely[numpy.isfinite(row[likely])]
            order = numpy.argsort(exact(base[likely], queries[line], metric), kind="stable")[:K]
            found[line, : len(order)] = likely[order]
    return found


def worst(distances):
    """The largest distance that still counts, with room for the rounding of float32."""
    largest = distances.max(axis=1)
    return largest + 1e-6 * numpy.maximum(numpy.abs(largest), 1)


def without_repeats(ids):
    """The same ids with every repeat made -1."""
    ids = numpy.array(ids, dtype=numpy.int64)
    order = numpy.argsort(ids, axis=1, kind="stable")
    ordered = numpy.take_along_axis(ids, order, axis=1)
    ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = -1
    return ordered


def make(into, folder, shape, sigma, metric):
    """Writes a set whose rows are those of `folder`, or in all directions, and of lengths exp(N(0, sigma)) where
    there is a sigma."""
    random = numpy.random.default_rng(1)
    if shape:
        base, queries = (random.normal(size=(rows, shape[1])) for rows in (shape[0], QUERIES))
    else:
        base, queries = (array(folder, name).astype(numpy.float32) for name in ("base", "queries"))
    base, queries = base.astype(numpy.float32), queries.astype(numpy.float32)
    if sigma is not None:
        lengths = numpy.exp(random.normal(0, sigma, len(base)))
        base *= (lengths / numpy.linalg.norm(base, axis=1))[:, None].astype(numpy.float32)
    truth = nearest(prepared(base, metric), prepared(queries, metric), metric)
    for name, rows in (("base", base), ("queries", queries), ("ground_truth", truth)):
        numpy.save(into / f"{name}.npy", rows)


def load(folder, metric):
    base, queries = array(folder, "base"), array(folder, "queries")
    truth = array(folder, "ground_truth")
    for name, rows in (("base", base), ("queries", queries)):
        if rows.ndim != 2 or 0 in rows.shape:
            raise Unusable(f"{folder / name}.npy has the shape {rows.shape}, not rows of numbers")
        if rows.dtype not in (numpy.uint8, numpy.float16, numpy.float32):
            raise Unusable(f"{folder / name}.npy holds {rows.dtype}, not u8, f16 or f32")
    if base.shape[1] != queries.shape[1]:
        raise Unusable(f"base has {base.shape[1]} dimensions but queries have {queries.shape[1]}")
    if truth.ndim != 2 or truth.shape[0] != len(queries) or truth.shape[1] < K:
        raise Unusable(
            f"ground_truth has the shape {truth.shape}, not {len(queries)} x {K} or more columns"
        )
    if truth.dtype.kind not in "iu" or truth.min() < 0 or truth.max() >= len(base):
        raise Unusable("ground_truth does not hold row numbers of base")
    return Rows(folder, metric, base, queries, truth.astype(numpy.int64))


def array(folder, name):
    path = folder / f"{name}.npy"
    try:
        return numpy.load(path)
    except FileNotFoundError:
        raise Unusable(f"there is no {path}") from None
    except (OSError, ValueError, EOFError) as fault:
        raise Unusable(f"{path} cannot be read: {fault}") from None
