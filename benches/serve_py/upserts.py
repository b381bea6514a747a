"""Requests and bytes of a pass of random upserts of 1 % of the ids of an indexed collection.

    benches/serve.py upserts [--share 0.01] [--batch 100] [--rounds 5] [--partitions 100]

The collection has --partitions partitions, so at least as many segments, and a pass touches nearly all.

A pass gives ids chosen at random the vectors of other rows, in batches from one client, and waits
until all is indexed again and nothing changes any more. The store's counters are read before and
after. "idle" is the same server while nobody writes, for as long as the pass took: polling and
heartbeats, which are in the figures of the passes too.

What could mislead: when rewriting starts depends on sizes and shares, so one pass may pay for
several; look at the range. A quick pass is mostly the 10 seconds of waiting for changes to end.
"""

import json
import tempfile
import time

import numpy

from . import data
from .report import Table, finish, progress
from .server import Server, upsert, version, wait_until_settled

DEFAULTS = {"rows": 50_000, "rounds": 5}
LOAD_BATCH = 1_000


def options(command):
    command.add_argument("--share", type=float, default=0.01, help="of the ids, in each pass")
    command.add_argument("--batch", type=int, default=100, metavar="N")
    command.add_argument("--partitions", type=int, default=100, metavar="N")


def run(args):
    rows = data.load(args, with_truth=False)
    metadata = data.metadata(rows)
    random = numpy.random.default_rng(17)
    count = max(round(args.share * rows.count), 1)
    table = Table(
        f"upserts: passes of {count} of {rows.count} ids in batches of {args.batch}, "
        f"{args.partitions} partitions",
        8,
        {"segments": ".0f", "seconds": ".1f", "PUTs": ".0f", "GETs": ".0f", "LISTs": ".0f", "DELETEs": ".0f",
         "MB written": ".2f", "MB read": ".2f", "written/sent": ".1f"},
    )
    with tempfile.TemporaryDirectory(prefix="brainy-bench-") as folder, Server(folder) as server:
        server.create(partitionCount=args.partitions)
        server.upload(data.ids(range(rows.count)), rows.base, metadata, LOAD_BATCH)
        server.see_all()
        wait_until_settled(server, args)
        for number in range(args.rounds):
            started, before = time.monotonic(), server.store_requests()
            sent = one_pass(args, server, rows, metadata, random.permutation(rows.count)[:count])
            wait_until_settled(server, args)
            seconds, after = time.monotonic() - started, server.store_requests()
            segments = server.stats()["segments"]
            table.add("a pass", {"segments": segments, **figures(before, after, seconds, sent)})
            time.sleep(seconds)
            table.add("idle", figures(after, server.store_requests(), seconds, None))
            progress(f"round {number + 1} of {args.rounds}")
    finish(args, [table], {"brainy": version()})


def one_pass(args, server, rows, metadata, chosen):
    """Upserts these rows' ids with the vectors of the rows chosen next; returns the bytes sent."""
    others, sent = numpy.roll(chosen, 1), 0
    for first in range(0, len(chosen), args.batch):
        part = slice(first, first + args.batch)
        names = data.ids(chosen[part])
        vectors = numpy.ascontiguousarray(rows.base[others[part]])
        about = [metadata[other] for other in others[part]]
        upsert(server.client, names, vectors, about)
        sent += vectors.nbytes + sum(map(len, names)) + sum(len(json.dumps(one)) for one in about)
    return sent


def figures(before, after, seconds, sent):
    spent = {kind: after[kind] - before[kind] for kind in after}
    said = {
        "seconds": seconds, "PUTs": spent["put"], "GETs": spent["get"], "LISTs": spent["list"],
        "DELETEs": spent["delete"], "MB written": spent["written"] / 1e6,
        "MB read": spent["read"] / 1e6,
    }
    if sent:
        said["written/sent"] = spent["written"] / sent
    return said
