"""Filtered searches: recall and throughput at shares of 50 %, 10 %, 1 % and 0.1 % of the rows.

    benches/serve.py filters [--shares 0.5,0.1,0.01,0.001] [--rounds 3]

    random   {"shuffled": {"$lt": N}}, N of a random order of all rows: the same rows for every query
    near     {"cluster-SHARE": C}, C the label of the pivot that is nearest to the query
    far      the same with a label at random from the half of the pivots that is farthest

Each share has 1 / share pivots, found by a few rounds of k-means; a row is labelled with its nearest
one. So a label has about that share of the rows; the table says how much the queries' filters let
through on average. Recall is against the exact nearest among the rows that pass, by numpy; a row that
comes back though it does not pass ends the run. "unfiltered" is the same collection without a filter.

What could mislead: where fewer than k rows pass, recall is of those. Labels of clusters are never
of the same size, and the small ones are easy. Answers have no metadata, which would cost the same
for all.
"""

import tempfile

import numpy
from kernel_py.data import K
from kernel_py.peers import rectangle

from . import data
from .report import Table, finish, progress
from .server import Server, search_path, version, wait_until_indexed
from .wrk import Wrk, search_bodies

DEFAULTS = {"rows": 50_000, "rounds": 3}
LLOYD_ROUNDS = 5
BATCH = 1_000
BLOCK = 4_096


def options(command):
    command.add_argument("--shares", type=lambda text: [float(part) for part in text.split(",")],
                         default=[0.5, 0.1, 0.01, 0.001])
    command.add_argument("--connections", type=int, default=8, metavar="N",
                         help="for the throughput")


class Case:
    """One filter for each query, and which rows it lets through."""

    def __init__(self, name, filters, mask):
        self.name, self.filters, self.mask = name, filters, mask

    def prepare(self, rows, server, wrk):
        """Measures recall and keeps the requests."""
        bodies = list(search_bodies(rows.queries, self.filters))
        found = rectangle(list(server.found(bodies)))
        truth = rows.truth
        self.share = 1.0
        if self.filters:
            masks = [self.mask(query) for query in range(len(rows.queries))]
            self.share = float(numpy.mean([mask.mean() for mask in masks]))
            for mask, line, wanted in zip(masks, found, self.filters):
                if not mask[line[line >= 0]].all():
                    raise RuntimeError(f"{self.name}: {wanted} returned rows that do not pass")
            truth = data.nearest(rows.base, rows.queries, rows.metric, self.mask)
        self.recall = data.recall(rows, found, truth)
        self.searches = wrk.searches(bodies)
        progress(f"{self.name}: {self.share:.2%} pass, recall {self.recall:.4f}")


def run(args):
    rows = data.load(args)
    metadata = [{} for _ in range(rows.count)]
    cases = [Case("unfiltered", None, None), *random_cases(args, rows, metadata)]
    cases += cluster_cases(args, rows, metadata)
    table = Table(
        f"filters: {rows.count} x {data.DIMENSIONS}, k = {K}, {len(rows.queries)} queries",
        16,
        {"rows that pass, %": ".2f", "recall@10": ".4f", "p50 us": ".0f", "p99 us": ".0f",
         f"QPS, {args.connections}": ".0f"},
    )
    with tempfile.TemporaryDirectory(prefix="brainy-bench-") as folder, Server(folder) as server:
        wrk = Wrk(folder)
        server.create()
        server.upload(data.ids(range(rows.count)), rows.base, metadata, BATCH)
        server.see_all()
        wait_until_indexed(server, args)
        for case in cases:
            case.prepare(rows, server, wrk)
        url = server.url + search_path()
        for number in range(args.rounds):
            for case in cases if number % 2 == 0 else reversed(cases):
                one = wrk.run(url, case.searches, 1, args.seconds)
                many = wrk.run(url, case.searches, args.connections, args.seconds)
                table.add(case.name, {
                    "rows that pass, %": 100 * case.share, "recall@10": case.recall,
                    "p50 us": one["p50"], "p99 us": one["p99"],
                    f"QPS, {args.connections}": many["qps"],
                })
            progress(f"round {number + 1} of {args.rounds}")
    finish(args, [table], {"brainy": version()})


def random_cases(args, rows, metadata):
    shuffled = numpy.random.default_rng(5).permutation(rows.count)
    for one, place in zip(metadata, shuffled.tolist()):
        one["shuffled"] = place
    for share in args.shares:
        limit = max(round(share * rows.count), 1)
        filters = [{"shuffled": {"$lt": limit}}] * len(rows.queries)
        allowed = shuffled < limit
        yield Case(f"random {share:.1%}", filters, lambda _, allowed=allowed: allowed)


def cluster_cases(args, rows, metadata):
    random = numpy.random.default_rng(6)
    for share in args.shares:
        pivots = clusters(rows.base, min(max(round(1 / share), 2), rows.count), random)
        labels = (rows.base @ pivots.T).argmax(axis=1)
        field = f"cluster-{share:g}"
        for one, label in zip(metadata, labels.tolist()):
            one[field] = label
        # Labels that some row has, nearest to the query first.
        used = numpy.unique(labels)
        order = used[numpy.argsort(-(rows.queries @ pivots[used].T), axis=1)]
        far = order[:, order.shape[1] // 2 :]
        chosen = {"near": order[:, 0], "far": random.permuted(far, axis=1)[:, 0]}
        for kind, each in chosen.items():
            filters = [{field: label} for label in each.tolist()]
            yield Case(f"{kind} {share:.1%}", filters, labelled(labels, each))


def labelled(labels, chosen):
    return lambda query: labels == chosen[query]


def clusters(base, count, random):
    """Directions of so many clusters of the rows, none of them empty at the beginning."""
    pivots = base[random.permutation(len(base))[:count]].copy()
    for _ in range(LLOYD_ROUNDS):
        sums = numpy.zeros_like(pivots)
        for first in range(0, len(base), BLOCK):
            part = base[first : first + BLOCK]
            numpy.add.at(sums, (part @ pivots.T).argmax(axis=1), part)
        lengths = numpy.linalg.norm(sums, axis=1, keepdims=True)
        # One that lost all of its rows stays where it is.
        pivots = numpy.where(lengths > 0, sums / numpy.maximum(lengths, 1e-9), pivots)
    return pivots
