"""Rows, queries, metadata, and what should be found, computed exactly with numpy."""

import json
import sys

import numpy
from kernel_py.data import K, Rows, Unusable, array, nearest, prepared, worst

MINILM = "minilm-wordnet-50k"
DIMENSIONS = 384
METRIC = "cosine"
# Of the noise on each number of a row that is made from another one: together about .4 long beside
# a row of length 1, so that the copies of a row are related, but not the same.
NOISE = 0.02
# Without descriptions of its rows, and not of unit length.
SIFT = "sift-100k"
METRICS = {MINILM: METRIC, SIFT: "euclidean"}


def load(args, rows=None, with_truth=True):
    """The first rows of the data set; made from those with noise where more are asked for."""
    name = getattr(args, "set", MINILM)
    folder, metric = args.data / name, METRICS[name]
    try:
        base = prepared(array(folder, "base"), metric)
        queries = prepared(array(folder, "queries")[: args.queries], metric)
        truth = array(folder, "ground_truth")[: args.queries, :K].astype(numpy.int64)
    except Unusable as fault:
        sys.exit(f"{fault}; --data or BRAINY_TEST_DATA names the folder of the data sets")
    rows = rows or args.rows
    whole = len(base)
    base = base[:rows] if rows <= whole else noisy(base, rows, metric)
    if rows != whole:
        truth = nearest(base, queries, metric) if with_truth else numpy.zeros((len(queries), K), int)
    return Rows(folder, metric, base, queries, truth)


def noisy(base, rows, metric):
    """So many rows: the base, and then its rows again and again with noise, as long as they are."""
    random = numpy.random.default_rng(11)
    made = numpy.empty((rows, base.shape[1]), dtype=numpy.float32)
    made[: len(base)] = base
    for first in range(len(base), rows, len(base)):
        place = made[first : first + len(base)]
        place[:] = base[: len(place)]
        scale = NOISE if metric == "cosine" else NOISE * numpy.linalg.norm(place, axis=1, keepdims=True)
        place += scale * random.standard_normal(place.shape, dtype=numpy.float32)
        if metric == "cosine":
            place /= numpy.linalg.norm(place, axis=1, keepdims=True)
    return made


def recall(rows, found, truth):
    """The share of what should be found that was found; a row as near as the last one counts."""
    wanted = (truth >= 0).sum(axis=1)
    asked = wanted > 0
    distances = rows.distances(truth)
    last = numpy.where(numpy.isfinite(distances), distances, -numpy.inf)
    queries = numpy.flatnonzero(asked)
    return rows.recall(found[asked], queries, worst(last[asked]), wanted[asked])


def row_id(row):
    return f"row-{row}"


def row_of(identifier):
    return int(identifier.removeprefix("row-"))


def ids(rows):
    return [row_id(row) for row in rows]


def metadata(rows):
    """What the data set says about each row: its category and its number of words, or nothing."""
    if rows.folder.name == SIFT:
        return [{}] * rows.count
    with open(rows.folder / "records.jsonl") as lines:
        known = [json.loads(line)["metadata"] for line in lines]
    known = [{"category": one["category"], "words": one["words"]} for one in known]
    return [known[row % len(known)] for row in range(rows.count)]
