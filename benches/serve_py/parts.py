"""The same rows in 1, 4 and 16 partitions: latency, throughput and recall of each.

    benches/serve.py parts [--partitions 1,4,16] [--rounds 3]

One server has a collection for each count, all of the same rows and all indexed before the first
search; the rounds measure them in turns.

What could mislead: every partition of a small collection is smaller still, and may be searched
exactly where one of the whole would not be. A search on more partitions uses more cores at once,
which helps one connection and costs the throughput.
"""

import tempfile

from kernel_py.data import K
from kernel_py.peers import rectangle

from . import data
from .report import Table, finish, progress
from .server import Server, search_path, version, wait_until_indexed
from .wrk import Wrk, search_bodies

DEFAULTS = {"rows": 50_000, "rounds": 3}
BATCH = 1_000


def options(command):
    command.add_argument("--partitions", type=lambda text: list(map(int, text.split(","))),
                         default=[1, 4, 16])
    command.add_argument("--connections", type=int, default=8, metavar="N",
                         help="for the throughput")


def run(args):
    rows = data.load(args)
    names, metadata = data.ids(range(rows.count)), data.metadata(rows)
    bodies = list(search_bodies(rows.queries))
    table = Table(
        f"parts: {rows.count} x {data.DIMENSIONS}, k = {K}, {len(rows.queries)} queries",
        14,
        {"recall@10": ".4f", "p50 us": ".0f", "p99 us": ".0f", "QPS, 1": ".0f",
         f"QPS, {args.connections}": ".0f"},
    )
    with tempfile.TemporaryDirectory(prefix="brainy-bench-") as folder, Server(folder) as server:
        wrk = Wrk(folder)
        searches, recalls = wrk.searches(bodies), {}
        for count in args.partitions:
            collection = f"parts-{count}"
            server.create(collection, partitionCount=count)
            server.upload(names, rows.base, metadata, BATCH, collection)
            server.see_all(collection)
            wait_until_indexed(server, args, collection)
            found = rectangle(list(server.found(bodies, collection)))
            recalls[count] = data.recall(rows, found, rows.truth)
            progress(f"{collection}: recall {recalls[count]:.4f}")
        for number in range(args.rounds):
            for count in args.partitions if number % 2 == 0 else reversed(args.partitions):
                url = server.url + search_path(f"parts-{count}")
                one = wrk.run(url, searches, 1, args.seconds)
                many = wrk.run(url, searches, args.connections, args.seconds)
                table.add(f"{count} partition{'s' * (count > 1)}", {
                    "recall@10": recalls[count], "p50 us": one["p50"], "p99 us": one["p99"],
                    "QPS, 1": one["qps"], f"QPS, {args.connections}": many["qps"],
                })
            progress(f"round {number + 1} of {args.rounds}")
    finish(args, [table], {"brainy": version()})
