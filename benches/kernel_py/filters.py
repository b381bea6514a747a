"""Searches that may only find some of the rows: how many are allowed, and where they lie."""

import statistics
import sys

import numpy

from .data import K, worst

SHARES = (0.5, 0.1, 0.01, 0.001)
KINDS = {
    "random": "the same rows for every query",
    "near": "the rows nearest to each query",
    "far": "rows at random out of the half that is farthest from each query",
}
WIDTHS = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096]
SLOW = 96
TARGET = 0.95
ROUNDS_MAX = 3
# The peers answer as many queries, and recall is that of these for all: an unselective search of
# hnswlib asks a Python function about every row it comes by.
QUERIES_MAX = 200
BLOCK = 50


class Masks:
    """Which rows each query may find, and what it should find among them."""

    def __init__(self, rows, kind, share):
        self.rows, self.kind, self.share = rows, kind, share
        self.allowed = max(round(share * rows.count), 1)
        self.wanted = min(K, self.allowed)
        self.per_query = kind != "random"
        self.random = numpy.random.default_rng(7)
        if not self.per_query:
            self.bits = self.packed([self.random.permutation(rows.count)[: self.allowed]])
        bits, worst_allowed = [], []
        for first in range(0, len(rows.queries), BLOCK):
            queries = range(first, min(first + BLOCK, len(rows.queries)))
            distances = rough_distances(rows, queries)
            if self.per_query:
                self.bits = self.packed([self.chosen(line) for line in distances])
                bits.append(self.bits)
            worst_allowed.append(self.worst_allowed(queries, distances))
        if self.per_query:
            self.bits = numpy.concatenate(bits)
        self.worst = numpy.concatenate(worst_allowed)

    def packed(self, lines):
        masks = numpy.zeros((len(lines), self.rows.count), dtype=bool)
        for mask, line in zip(masks, lines):
            mask[line] = True
        return numpy.packbits(masks, axis=1, bitorder="little")

    def unpacked(self, lines=slice(None)):
        return numpy.unpackbits(self.bits[lines], axis=1, count=self.rows.count, bitorder="little")

    def chosen(self, distances):
        if self.kind == "near":
            return numpy.argpartition(distances, self.allowed - 1)[: self.allowed]
        half = max(self.rows.count // 2, self.allowed)
        farthest = numpy.argpartition(-distances, half - 1)[:half]
        return self.random.permutation(farthest)[: self.allowed]

    def worst_allowed(self, queries, distances):
        """The exact distance of the last row that each query should find."""
        distances = numpy.where(self.unpacked(), distances, numpy.inf)
        # More than are wanted, as these distances are rounded.
        some = min(self.wanted + 20, self.allowed)
        ids = numpy.argpartition(distances, some - 1, axis=1)[:, :some]
        found = numpy.sort(self.rows.distances(ids, queries), axis=1)
        return worst(found[:, : self.wanted])

    def recall(self, ids):
        """Of the first queries; a row that was not allowed is an error, not a miss."""
        count = queries_of(self.rows)
        ids, queries = ids[:count], numpy.arange(count)
        lines = queries if self.per_query else numpy.zeros(count, dtype=int)
        masks = self.unpacked(lines)
        real = ids >= 0
        if not numpy.take_along_axis(masks, numpy.where(real, ids, 0), axis=1)[real].all():
            raise RuntimeError("rows came back that the filter does not allow")
        wanted = numpy.full(count, self.wanted)
        return self.rows.recall(ids, queries, self.worst[:count], wanted)


def rough_distances(rows, queries):
    """Of every row, in float32; for the Euclidean distance less what is the same for all rows."""
    products = rows.queries[queries.start : queries.stop] @ rows.base.T
    if rows.metric != "euclidean":
        return -products
    if not hasattr(rows, "squares"):
        rows.squares = numpy.square(rows.base).sum(axis=1)
    return rows.squares - 2 * products


def queries_of(rows):
    return min(len(rows.queries), QUERIES_MAX)


# ---- the measurement --------------------------------------------------------------------------


class Result:
    def __init__(self, engine):
        self.engine = engine
        self.default = self.width = self.reached = None
        self.rates = []


def run(engines, rows, args):
    engines = [engine for engine in engines if hasattr(engine, "filtered")]
    if not engines:
        print("\n--filters was left out: it needs brainy, hnswlib or faiss")
        return
    rounds = min(args.rounds, ROUNDS_MAX)
    print(f"\nfiltered, recall@{K} of the first {queries_of(rows)} queries, {rounds} rounds")
    for kind, text in KINDS.items():
        print(f"  {kind}: {text} are allowed")
    print(f"\n{'allowed':>8} {'rows':7} {'engine':9} {'recall at default':>18} "
          f"{f'width for {TARGET}':>15} {'recall':>7} {'searches/s':>16} {'brainy /':>20}")
    for kind in KINDS:
        for share in SHARES:
            masks = Masks(rows, kind, share)
            results = []
            for engine in list(engines):
                try:
                    results.append(sweep(engine, masks))
                except RuntimeError as fault:
                    print(f"{engine.name} is left out from here on: {fault}")
                    engines.remove(engine)
            for _ in range(rounds):
                for result in results:
                    if result.width:
                        if result.seconds < 1:
                            result.engine.filtered(result.width)  # to fill the caches
                        seconds, ids = result.engine.filtered(result.width)
                        result.rates.append(len(ids) / seconds)
            for result in results:
                line(masks, result, results[0])
    for engine in engines:
        engine.unfiltered()
    print(f"width: the first of {WIDTHS[0]}..{WIDTHS[-1]} with a recall of {TARGET}")
    for engine in engines:
        if engine.filter_note:
            print(f"{engine.name}: {engine.filter_note}")
    print("a search: of all queries for brainy, of the first ones for the others")
    print("the other engines were left out: usearch, for one, takes no filter from Python")


def sweep(engine, masks):
    print(f"{engine.name}: {masks.share:.1%}, {masks.kind}", file=sys.stderr, flush=True)
    result = Result(engine)
    engine.use_filter(masks, queries_of(masks.rows))
    result.default = masks.recall(engine.filtered(None)[1])
    widths = [width for width in WIDTHS if width <= max(masks.rows.count, K)]
    for width in widths:
        # Before the slow ones the widest: where that is not enough, nothing is.
        if width == SLOW and masks.recall(engine.filtered(widths[-1])[1]) < TARGET:
            break
        seconds, ids = engine.filtered(width)
        result.reached = masks.recall(ids)
        if result.reached >= TARGET:
            result.width, result.seconds = width, seconds
            break
    return result


def line(masks, result, ours):
    text = f"{masks.share:8.1%} {masks.kind:7} {result.engine.name:9} {result.default:18.4f} "
    if not result.width:
        print(f"{text}{'never':>15}", flush=True)
        return
    rate = f"{statistics.median(result.rates):.0f} [{max(result.rates):.0f}]"
    ratio = ""
    if ours.engine.name == "brainy" and result is not ours and ours.width:
        each = [our / their for our, their in zip(ours.rates, result.rates)]
        ratio = f"{statistics.median(each):.2f}x ({min(each):.2f}..{max(each):.2f})"
    print(f"{text}{result.width:15} {result.reached:7.4f} {rate:>16} {ratio:>20}", flush=True)
