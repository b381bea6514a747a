"""Brainy, Chroma and LanceDB with one interface.

An engine has `begin(folder)`, `ingest(rows, metadata, batch)` and `index(args)`, which both return
seconds, `use(width)`, `found(queries)` and `measure(connections, seconds)`. A width is what makes a
search of this engine wider (None: its default); `widths` are those to try, narrow ones first.
"""

import base64
import importlib.metadata
import json
import socket
import sys
import threading
import time
from pathlib import Path

import numpy
from kernel_py.data import K

from . import server
from .data import DIMENSIONS, METRIC, ids, row_of
from .server import Client, Process, Server, search_path, wait_until_indexed
from .wrk import base64_text, corrected, search_bodies, vector_text

BASE64 = "base64"


class Brainy:
    name = "brainy"
    widths = []
    server = None

    def __init__(self, wrk):
        self.wrk = wrk

    @property
    def version(self):
        return server.version()

    def begin(self, folder):
        self.server = Server(folder)
        self.server.create()

    def ingest(self, rows, metadata, batch):
        return self.server.upload(ids(range(rows.count)), rows.base, metadata, batch)

    def index(self, args):
        self.server.see_all()
        return wait_until_indexed(self.server, args)

    def prepare(self, queries):
        self.bodies = list(search_bodies(queries))
        self.kinds = {
            None: self.wrk.searches(self.bodies),
            BASE64: self.wrk.searches(search_bodies(queries, text=base64_text)),
        }

    def use(self, width):
        """It has no width, but two ways to write a vector."""
        self.searches = self.kinds[width]

    def found(self):
        return list(self.server.found(self.bodies))

    def measure(self, connections, seconds):
        url = self.server.url + search_path()
        return self.wrk.run(url, self.searches, connections, seconds)

    def floor(self, connections):
        return self.wrk.floor(self.server.url, connections)

    def stop(self):
        if self.server:
            self.server.stop()


class Chroma:
    """`chroma run`, its HNSW with the defaults (M 16, efConstruction 100) and cosine."""

    name = "chroma"
    widths = [10, 20, 40, 60, 80, 120, 160, 240, 320, 480, 640, 1000]
    width_name = "ef_search"
    process = width = None
    collections = "/api/v2/tenants/default_tenant/databases/default_database/collections"

    def __init__(self, wrk):
        self.wrk = wrk

    @property
    def version(self):
        return importlib.metadata.version("chromadb")

    def begin(self, folder):
        self.folder = folder
        self.start()
        body = {"name": "bench", "configuration": {"hnsw": {"space": METRIC}}}
        self.path = f"{self.collections}/{self.client.post(self.collections, body)['id']}"

    def start(self):
        # It cannot choose a port by itself.
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [Path(sys.executable).with_name("chroma"), "run", "--path", self.folder / "chroma"]
        self.process = Process([*command, "--host", "127.0.0.1", "--port", port], self.folder)
        self.process.wait_for(r"(listening on address)")
        self.url = f"http://127.0.0.1:{port}"
        self.client = Client(self.url)
        self.answers()

    def answers(self):
        """It says that it listens a little before it does."""
        for _ in range(100):
            try:
                self.client.get("/api/v2/heartbeat")
                return
            except ConnectionRefusedError:
                time.sleep(0.1)
        sys.exit("chroma does not answer")

    def ingest(self, rows, metadata, batch):
        known = self.client.get("/api/v2/pre-flight-checks")
        batch = min(batch, known["max_batch_size"])
        names = ids(range(rows.count))
        started = time.perf_counter()
        for first in range(0, rows.count, batch):
            part = slice(first, first + batch)
            # As its own client sends them.
            vectors = [base64.b64encode(row.data).decode() for row in rows.base[part]]
            body = {"ids": names[part], "embeddings": vectors, "metadatas": metadata[part]}
            self.client.post(f"{self.path}/add", body)
        return time.perf_counter() - started

    def index(self, args):
        """Its first search indexes what is not indexed yet."""
        started = time.perf_counter()
        zero = [[1.0] + [0.0] * (DIMENSIONS - 1)]
        self.client.post(f"{self.path}/query", {"query_embeddings": zero, "n_results": 1})
        return time.perf_counter() - started

    def prepare(self, queries):
        self.bodies = [
            f'{{"query_embeddings":[{vector_text(query)}],"n_results":{K},"include":["distances"]}}'
            for query in queries
        ]
        self.searches = self.wrk.searches(self.bodies)

    def use(self, width):
        if width == self.width:
            return
        self.width = width
        body = {"new_configuration": {"hnsw": {"ef_search": width or 100}}}
        self.client.send("PUT", self.path, json.dumps(body).encode())
        # It takes this for an index that it reads, not for one that it holds in memory.
        self.stop()
        self.start()

    def found(self):
        answers = (self.client.post(f"{self.path}/query", body.encode()) for body in self.bodies)
        return [[row_of(name) for name in answer["ids"][0]] for answer in answers]

    def measure(self, connections, seconds):
        return self.wrk.run(f"{self.url}{self.path}/query", self.searches, connections, seconds)

    def stop(self):
        if self.process:
            self.process.stop()


class LanceDb:
    """In this process, without HTTP, its IVF_HNSW_SQ with the defaults: calls from Python threads."""

    name = "lancedb"
    # ef, and the factor of rows that are measured again by their whole vectors. (Its index is one
    # partition at these sizes, so there is nothing to probe.)
    widths = [(32, 2), (48, 3), (64, 4), (100, 4), (150, 4), (200, 4), (300, 8), (500, 16)]
    width_name = "ef, refine_factor"

    def __init__(self, wrk):
        self.width = None

    @property
    def version(self):
        return importlib.metadata.version("lancedb")

    def begin(self, folder):
        import lancedb
        import pyarrow

        self.pyarrow, self.folder = pyarrow, Path(folder) / "lancedb"
        self.schema = pyarrow.schema([
            ("id", pyarrow.string()),
            ("vector", pyarrow.list_(pyarrow.float32(), DIMENSIONS)),
            ("category", pyarrow.string()),
            ("words", pyarrow.int64()),
        ])
        self.table = lancedb.connect(self.folder).create_table("bench", schema=self.schema)

    def ingest(self, rows, metadata, batch):
        arrow, names = self.pyarrow, ids(range(rows.count))
        started = time.perf_counter()
        for first in range(0, rows.count, batch):
            part = slice(first, first + batch)
            values = arrow.array(rows.base[part].reshape(-1))
            columns = [
                arrow.array(names[part]),
                arrow.FixedSizeListArray.from_arrays(values, DIMENSIONS),
                arrow.array([one["category"] for one in metadata[part]]),
                arrow.array([one["words"] for one in metadata[part]]),
            ]
            self.table.add(arrow.Table.from_arrays(columns, schema=self.schema))
        return time.perf_counter() - started

    def index(self, args):
        from lancedb.index import HnswSq

        started = time.perf_counter()
        self.table.create_index("vector", config=HnswSq(distance_type=METRIC))
        return time.perf_counter() - started

    def prepare(self, queries):
        self.queries = queries

    def use(self, width):
        self.width = width

    def search(self, query):
        search = self.table.search(query, vector_column_name="vector")
        search = search.distance_type(METRIC).select(["id", "_distance"]).limit(K)
        if self.width:
            ef, factor = self.width
            search = search.ef(ef).refine_factor(factor)
        return search.to_arrow()["id"].to_pylist()

    def found(self):
        return [[row_of(name) for name in self.search(query)] for query in self.queries]

    def measure(self, connections, seconds):
        """As wrk measures: the warm second is left out, every thread sends one after another."""
        times = [[] for _ in range(connections)]
        started = time.perf_counter() + 1
        threads = [
            threading.Thread(target=self.search_until, args=(place, started, started + seconds, own))
            for place, own in enumerate(times)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        times = numpy.concatenate(times)
        return {**corrected(times), "qps": len(times) / seconds}

    def search_until(self, place, first, last, times):
        number = place * len(self.queries) // 8
        while (started := time.perf_counter()) < last:
            self.search(self.queries[number % len(self.queries)])
            if started >= first:
                times.append(time.perf_counter() - started)
            number += 1

    def stop(self):
        """Its files go with the folder of the whole."""


ENGINES = {engine.name: engine for engine in (Brainy, Chroma, LanceDb)}
