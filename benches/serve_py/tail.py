"""What a tail of rows that are not indexed yet adds to a search.

    benches/serve.py tail [--tail 50000] [--rounds 3]

A first server loads two collections with the same --rows and indexes them. It is started again with
BRAINY_INDEX_ENABLED=false, so that the --tail rows that one of them gets then stay in the log's tail.
The rounds measure both in turns, on the same server. A build that does not know that setting needs
--no-wait, and then measures two collections of tails alone.

What could mislead: the collection with the tail has more rows, and would take a little longer also
if all were indexed. Its tail was applied moments ago and lies in memory.
"""

import subprocess
import sys
import tempfile

from kernel_py.data import K
from kernel_py.peers import rectangle

from . import data
from .report import Table, finish, progress
from .server import BINARY, Server, search_path, version, wait_until_indexed
from .wrk import Wrk, search_bodies

DEFAULTS = {"rows": 50_000, "rounds": 3}
BATCH = 1_000
HELD_BACK = {"BRAINY_INDEX_ENABLED": "false"}
INDEXED, WITH_TAIL = "indexed", "with-tail"


def options(command):
    command.add_argument("--tail", type=int, default=50_000, metavar="N", help="rows not indexed")


def run(args):
    rows = data.load(args)
    more = data.load(args, rows=args.rows + args.tail)
    environment = held_back(args)
    bodies = list(search_bodies(rows.queries))
    table = Table(
        f"tail: {rows.count} x {data.DIMENSIONS} and {args.tail} more that are not indexed, k = {K}",
        12,
        {"rows in the tail": ".0f", "recall@10": ".4f", "p50 us": ".0f", "p99 us": ".0f",
         "QPS, 1": ".0f"},
    )
    with tempfile.TemporaryDirectory(prefix="brainy-bench-") as folder:
        with Server(folder) as server:
            for collection in (INDEXED, WITH_TAIL):
                server.create(collection)
                upload(server, collection, rows, 0)
                wait_until_indexed(server, args, collection)
        with Server(folder, environment=environment) as server:
            upload(server, WITH_TAIL, more, rows.count)
            server.see_all(INDEXED)
            known = {
                INDEXED: state(server, INDEXED, rows, bodies),
                WITH_TAIL: state(server, WITH_TAIL, more, bodies),
            }
            measure(args, server, Wrk(folder), bodies, known, table)
    finish(args, [table], {"brainy": version()})


def held_back(args):
    """What holds indexing back, if this build knows it."""
    command = [BINARY, "--json", "config", "show"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    if "index_enabled" in said:
        return HELD_BACK
    if args.no_wait:
        return {}
    return sys.exit("this build has no setting index_enabled; --no-wait goes on without")


def upload(server, collection, rows, first):
    names, metadata = data.ids(range(first, rows.count)), data.metadata(rows)[first:]
    server.upload(names, rows.base[first:], metadata, BATCH, collection)
    server.see_all(collection)


def state(server, collection, rows, bodies):
    found = rectangle(list(server.found(bodies, collection)))
    recall = data.recall(rows, found, rows.truth)
    tail = server.stats(collection)["tail"]["rows"]
    progress(f"{collection}: {tail} rows in the tail, recall {recall:.4f}")
    return {"rows in the tail": tail, "recall@10": recall}


def measure(args, server, wrk, bodies, known, table):
    searches, differences = wrk.searches(bodies), []
    for number in range(args.rounds):
        p50 = {}
        for collection in known if number % 2 == 0 else reversed(known):
            url = server.url + search_path(collection)
            one = wrk.run(url, searches, 1, args.seconds)
            p50[collection] = one["p50"]
            table.add(collection, {**known[collection], "p50 us": one["p50"],
                                   "p99 us": one["p99"], "QPS, 1": one["qps"]})
        differences.append(p50[WITH_TAIL] - p50[INDEXED])
        progress(f"round {number + 1} of {args.rounds}")
    for difference in differences:
        table.add("the tail adds", {"p50 us": difference})
