#!/usr/bin/env python3
"""Durable vectors per second, requests and dollars per million vectors: Brainy against LanceDB.

    benches/ingest.py [--rows 50000] [--rounds 3] [--clients 1,8] [--batch 1000] [--out FILE]

Both write the same rows (id, 384 floats, category, words) to the same SeaweedFS server in the same
run, in rounds that alternate. Every client is a process of its own that sends its next batch when
the one before it is acknowledged as durable; eight clients of LanceDB are eight writers of one
table, whose commit conflicts count as the time they take. Brainy is one writer process, spoken to
over HTTP, with its rows in columns as LanceDB gets them and vectors in base64. A client's encoding counts on both sides.

Requests are counted by the S3 server, for both alike, and priced as S3 Standard in us-east-1.
The script starts the server, makes its own Python environment in the cache, and removes all data.
BRAINY_TEST_BIN names another binary than the one that is shipped (profile dist).
"""

import argparse
import base64
import json
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = os.environ.get("BRAINY_TEST_BIN", ROOT / "target" / "dist" / "brainy")
DOLLARS_PER_PUT = 0.005 / 1000  # PUT, COPY, POST, LIST
DOLLARS_PER_GET = 0.0004 / 1000  # GET, HEAD and the rest; DELETE is free
DIMENSIONS = 384
COLLECTION = "bench"
START_SECONDS_MAX = 60


def inside_bench_python():
    """Runs this script again in an environment that has LanceDB, made in the cache."""
    if os.environ.get("BRAINY_TEST_BENCH_PYTHON"):
        return
    python = subprocess.run(
        [ROOT / "scripts" / "tool", "bench-python"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    os.environ["BRAINY_TEST_BENCH_PYTHON"] = python
    os.execv(python, [python, __file__, *sys.argv[1:]])


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--clients", type=lambda text: list(map(int, text.split(","))), default=[1, 8])
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--out", type=Path, help="write every run as JSON")
    return parser.parse_args()


def data_folder():
    return Path(os.environ.get("BRAINY_TEST_DATA", ROOT.parent / "shared" / "data"))


class Rows:
    """The rows of one client: every `clients`-th batch of the data set."""

    def __init__(self, args, client, clients):
        import numpy

        folder = args.data / "minilm-wordnet-50k"
        vectors = numpy.load(folder / "base.npy")[: args.rows].astype(numpy.float32)
        with open(folder / "records.jsonl") as lines:
            records = [json.loads(line) for line, _ in zip(lines, vectors)]
        # Two ids stand twice in the data set.
        for row, record in enumerate(records):
            record["id"] = f"{row}-{record['id']}"
        starts = range(client * args.batch, len(vectors), clients * args.batch)
        self.batches = [
            (records[start : start + args.batch], vectors[start : start + args.batch])
            for start in starts
        ]


# ---- Brainy -----------------------------------------------------------------------------------


class Brainy:
    name = "brainy"

    def __init__(self, url, run):
        self.store = f"{url}/{run}-brainy"
        self.processes = []
        self.url = self.serve("writer")
        body = {"name": COLLECTION, "dimensions": DIMENSIONS, "metric": "cosine"}
        call(self.url, "/v1/collections", body)

    def serve(self, role):
        command = [BINARY, "serve", "--store", self.store, "--role", role, "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            sys.exit(f"brainy did not start: {line!r}")
        return line.removeprefix("listening on ").strip()

    def client(self):
        """What a client process needs to know."""
        return {"url": self.url}

    @staticmethod
    def writer(known):
        def write(records, vectors):
            columns = {
                "ids": [record["id"] for record in records],
                "metadata": [metadata(record) for record in records],
                "vectors": "@",
            }
            # json.dumps would look at every character of the base64 for something to escape.
            body = json.dumps({"columns": columns}).encode()
            text = b'"' + base64.b64encode(vectors.data) + b'"'
            body = body.replace(b'"@"', text, 1)
            post(known["url"], f"/v1/collections/{COLLECTION}/vectors", body)

        return write

    def count(self):
        """How many rows another process finds."""
        reader = self.serve("reader")
        search = {"vector": [1.0] * DIMENSIONS, "k": 1, "consistency": "strong"}
        call(reader, f"/v1/collections/{COLLECTION}/search", search)
        with urllib.request.urlopen(f"{reader}/v1/collections/{COLLECTION}") as answer:
            return json.load(answer)["vectorCount"]

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()


def metadata(record):
    return {"category": record["metadata"]["category"], "words": record["metadata"]["words"]}


def call(url, path, body):
    return post(url, path, json.dumps(body).encode())


def post(url, path, body):
    request = urllib.request.Request(
        url + path, data=body, headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


# ---- LanceDB ----------------------------------------------------------------------------------


class LanceDb:
    name = "lancedb"

    def __init__(self, url, run):
        self.url = f"{url}/{run}-lancedb"
        self.table(self.url, create=True)

    @staticmethod
    def schema():
        import pyarrow

        return pyarrow.schema(
            [
                ("id", pyarrow.string()),
                ("vector", pyarrow.list_(pyarrow.float32(), DIMENSIONS)),
                ("category", pyarrow.string()),
                ("words", pyarrow.int64()),
            ]
        )

    @classmethod
    def table(cls, url, create=False):
        import lancedb

        storage = {
            "endpoint": os.environ["AWS_ENDPOINT_URL_S3"],
            "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
            "region": os.environ["AWS_REGION"],
            "allow_http": "true",
        }
        database = lancedb.connect(url, storage_options=storage)
        if create:
            return database.create_table(COLLECTION, schema=cls.schema())
        return database.open_table(COLLECTION)

    def client(self):
        return {"url": self.url}

    @classmethod
    def writer(cls, known):
        import pyarrow

        table, schema = cls.table(known["url"]), cls.schema()

        def write(records, vectors):
            values = pyarrow.array(vectors.reshape(-1))
            fields = [metadata(record) for record in records]
            columns = [
                pyarrow.array([record["id"] for record in records]),
                pyarrow.FixedSizeListArray.from_arrays(values, DIMENSIONS),
                pyarrow.array([field["category"] for field in fields]),
                pyarrow.array([field["words"] for field in fields]),
            ]
            table.add(pyarrow.Table.from_arrays(columns, schema=schema))

        return write

    def count(self):
        return self.table(self.url).count_rows()

    def stop(self):
        pass


# ---- one run ----------------------------------------------------------------------------------


def client_process(system, known, args, client, clients, ready, results):
    """Sends its batches one after another; tells when it began, when it ended, and its retries."""
    rows = Rows(args, client, clients)
    write = system.writer(known)
    ready.wait()
    started, retries = time.monotonic(), 0
    for records, vectors in rows.batches:
        while True:
            try:
                write(records, vectors)
                break
            except Exception as fault:
                # A commit conflict that the library gave up on, or backpressure: again.
                retries += 1
                if retries > 1_000:
                    raise
                last = f"{type(fault).__name__}: {fault}"
                print(f"{system.name} client {client}: {last[:200]}", file=sys.stderr)
    results.put((started, time.monotonic(), retries))


def one_run(system_class, args, clients, run):
    url = os.environ["BRAINY_TEST_S3_URL"]
    system = system_class(url, run)
    try:
        context = multiprocessing.get_context("spawn")
        ready, results = context.Barrier(clients), context.Queue()
        before = s3_requests()
        processes = [
            context.Process(
                target=client_process,
                args=(system_class, system.client(), args, client, clients, ready, results),
            )
            for client in range(clients)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            sys.exit(f"a client of {system.name} failed")
        spans = [results.get() for _ in processes]
        after = s3_requests()
        found = system.count()
        if found != args.rows:
            sys.exit(f"{system.name}: {found} rows instead of {args.rows}")
    finally:
        system.stop()
    seconds = max(span[1] for span in spans) - min(span[0] for span in spans)
    puts = after["put"] - before["put"]
    gets = after["get"] - before["get"]
    million = 1e6 / args.rows
    return {
        "system": system.name,
        "clients": clients,
        "seconds": seconds,
        "vectors_per_second": args.rows / seconds,
        "puts_per_million": puts * million,
        "gets_per_million": gets * million,
        "dollars_per_million": (puts * DOLLARS_PER_PUT + gets * DOLLARS_PER_GET) * million,
        "retries": sum(span[2] for span in spans),
    }


def s3_requests():
    """Requests that the S3 server has answered, by price class."""
    with urllib.request.urlopen(os.environ["BRAINY_TEST_S3_METRICS_URL"]) as answer:
        text = answer.read().decode()
    counts = {"put": 0, "get": 0, "free": 0}
    pattern = r'^SeaweedFS_s3_request_total\{.*type="([A-Za-z0-9]+)".*\} ([0-9.e+]+)$'
    for kind, value in re.findall(pattern, text, re.MULTILINE):
        counts[price_class(kind)] += int(float(value))
    return counts


def price_class(kind):
    kind = kind.upper()
    if kind.startswith("DELETE"):
        return "free"
    return "put" if kind.startswith(("PUT", "POST", "COPY", "LIST", "MULTIPART")) else "get"


# ---- the whole --------------------------------------------------------------------------------


def main():
    os.environ.setdefault("BRAINY_LOG_LEVEL", "warn")
    inside_bench_python()
    args = options()
    if not (args.data / "minilm-wordnet-50k").is_dir():
        sys.exit(f"no data set in {args.data}; BRAINY_TEST_DATA names another folder")
    if not os.environ.get("BRAINY_TEST_BIN"):
        subprocess.run(["cargo", "build", "--profile", "dist", "--bin", "brainy"], cwd=ROOT, check=True)
    state = tempfile.mkdtemp(prefix="brainy-bench-")
    os.environ["BRAINY_TEST_S3_STATE"] = state
    server = ROOT / "scripts" / "s3-server"
    try:
        printed = subprocess.run(
            [server, "start", "seaweedfs"], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        for line in printed.splitlines():
            key, _, value = line.removeprefix("export ").partition("=")
            os.environ[key] = value
        runs = measure(args)
    finally:
        subprocess.run([server, "stop", "all"])
        shutil.rmtree(state, ignore_errors=True)
    table(args, runs)
    if args.out:
        args.out.write_text(json.dumps(runs, indent=1))


def measure(args):
    runs = []
    for number in range(args.rounds):
        for clients in args.clients:
            systems = [Brainy, LanceDb]
            for system in systems if number % 2 == 0 else reversed(systems):
                run = one_run(system, args, clients, f"run{len(runs)}")
                rate = run["vectors_per_second"]
                print(f"round {number + 1}: {run['system']}, {clients} clients: {rate:.0f}/s", flush=True)
                runs.append(run)
    return runs


def table(args, runs):
    def column(system, clients, name):
        return [run[name] for run in runs if run["system"] == system and run["clients"] == clients]

    print(f"\n{args.rows} x {DIMENSIONS}, batches of {args.batch}, {args.rounds} rounds, SeaweedFS")
    print(f"{'':8} {'clients':>7} {'vectors/s':>10} {'range':>17} {'PUTs/M':>8} {'GETs/M':>8} "
          f"{'$/M':>8} {'retries':>7}")
    for clients in args.clients:
        rates = {}
        for system in ("brainy", "lancedb"):
            rate = column(system, clients, "vectors_per_second")
            rates[system] = statistics.median(rate)
            middle = {
                name: statistics.median(column(system, clients, name))
                for name in ("puts_per_million", "gets_per_million", "dollars_per_million")
            }
            print(
                f"{system:8} {clients:7} {rates[system]:10.0f} {f'{min(rate):.0f}..{max(rate):.0f}':>17} "
                f"{middle['puts_per_million']:8.0f} {middle['gets_per_million']:8.0f} "
                f"{middle['dollars_per_million']:8.4f} {sum(column(system, clients, 'retries')):7}"
            )
        print(f"{'':8} {clients:7} {rates['brainy'] / rates['lancedb']:9.2f}x")


if __name__ == "__main__":
    main()
