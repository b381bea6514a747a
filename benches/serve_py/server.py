"""Brainy as a process of its own, spoken to over HTTP."""

import atexit
import base64
import http.client
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path

from .data import DIMENSIONS, METRIC, row_of
from .report import progress

ROOT = Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("BRAINY_TEST_BIN", ROOT / "target" / "dist" / "brainy")
COLLECTION = "bench"
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 40
REQUEST_SECONDS_MAX = 600
POLL_SECONDS = 0.2
# A collection whose stats have not changed for so long is compacted as far as it will be.
SETTLED_SECONDS = 10


def version():
    """Of the program that is measured; the commit only where it was built from this tree."""
    command = [BINARY, "--version"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
    if os.environ.get("BRAINY_TEST_BIN"):
        return f"{said} (the program that BRAINY_TEST_BIN names)"
    command = ["git", "-C", ROOT, "describe", "--always", "--dirty"]
    commit = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return f"{said} at {commit.stdout.strip() or 'an unknown commit'}"


class Refused(Exception):
    """An answer that is not 2xx."""

    def __init__(self, status, text):
        super().__init__(f"{status}: {text[:300]}")
        self.status = status


class Client:
    """One keep-alive connection, opened anew where it was idle for so long that the server may have closed it."""

    IDLE_SECONDS_MAX = 30

    def __init__(self, url):
        self.address = urllib.parse.urlsplit(url).netloc
        self.used = time.monotonic()
        self.connection = http.client.HTTPConnection(self.address, timeout=REQUEST_SECONDS_MAX)

    def get(self, path):
        return json.loads(self.send("GET", path)[1])

    def post(self, path, body):
        """The answer to a body, which is a value or already JSON in bytes."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return json.loads(self.send("POST", path, body)[1] or "null")

    def send(self, method, path, body=None):
        """Headers and body of an answer."""
        headers = {"content-type": "application/json"} if body is not None else {}
        if time.monotonic() - self.used > self.IDLE_SECONDS_MAX:
            self.connection.close()
        try:
            self.connection.request(method, path, body, headers)
        except OSError:
            self.connection.close()
            raise
        with self.connection.getresponse() as answer:
            said = answer.read()
            self.used = time.monotonic()
            if not 200 <= answer.status < 300:
                raise Refused(answer.status, said.decode(errors="replace"))
            return answer.headers, said

    def close(self):
        self.connection.close()


class Process:
    """A server that is ended with this program, whatever ends it but SIGKILL."""

    def __init__(self, command, folder, environment=None, before=None):
        """`before` is called in the process before the program begins."""
        self.log = Path(folder) / f"log-{id(self)}.txt"
        with open(self.log, "w") as log:
            self.child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **(environment or {})},
                preexec_fn=before,
            )
        atexit.register(self.stop)
        self.said = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        """Reads what the process says until it ends, so that it never waits for a full pipe."""
        for line in self.child.stdout:
            self.said.put(line)
        self.said.put(None)

    def wait_for(self, pattern):
        """The first group of the first line that matches."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                line = self.said.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                line = None
            found = line and re.search(pattern, line)
            if found:
                return found.group(1)
            if line is None:
                self.stop()
                sys.exit(f"{self.child.args[0]} did not start:\n{self.log.read_text()[-2000:]}")

    def stop(self):
        atexit.unregister(self.stop)
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def memory(self):
        """Resident bytes now: `all` of them, and `own` without the pages of mapped files."""
        text = Path(f"/proc/{self.child.pid}/status").read_text()
        sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE))
        return {"all": int(sizes["VmRSS"]) * 1024, "own": int(sizes["RssAnon"]) * 1024}


class Server(Process):
    """`brainy serve` on a free port, on a store in a folder, with fsync as it is by default."""

    def __init__(self, folder, store="store", environment=None, settings=(), before=None):
        self.store = f"file://{Path(folder) / store}"
        command = [BINARY, "serve", "--store", self.store, "--role", "hybrid"]
        for setting in settings:
            command += ["--set", setting]
        super().__init__([*command, "--listen", "127.0.0.1:0"], folder, environment, before)
        self.url = self.wait_for(r"^listening on (http://\S+)$")
        self.client = Client(self.url)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def create(self, collection=COLLECTION, **more):
        body = {"name": collection, "dimensions": DIMENSIONS, "metric": METRIC, **more}
        self.client.post("/v1/collections", body)

    def upload(self, ids, vectors, metadata, batch, collection=COLLECTION):
        """Sends all rows in batches, one after another; returns the seconds that this took."""
        started = time.perf_counter()
        for first in range(0, len(ids), batch):
            part = slice(first, first + batch)
            upsert(self.client, ids[part], vectors[part], metadata[part], collection)
        return time.perf_counter() - started

    def found(self, bodies, collection=COLLECTION):
        """The row numbers that each search finds."""
        path = search_path(collection)
        for body in bodies:
            answer = self.client.post(path, body.encode())
            yield [row_of(hit["id"]) for hit in answer["results"]]

    def see_all(self, collection=COLLECTION, dimensions=DIMENSIONS):
        """Until an eventual search sees every write."""
        body = {"vector": [1.0] * dimensions, "k": 1, "consistency": "strong"}
        self.client.post(search_path(collection), body)

    def stats(self, collection=COLLECTION):
        return self.client.get(f"/v1/collections/{collection}/stats")

    def is_at_work(self):
        """Whether it indexes or merges something right now."""
        text = self.client.send("GET", "/metrics")[1].decode()
        return re.search(r"^brainy_upkeep_running(\{.*\})? 0*[1-9]", text, re.MULTILINE) is not None

    def store_requests(self):
        """What the store was asked so far: requests by kind, bytes read and written."""
        text = self.client.send("GET", "/metrics")[1].decode()
        kinds = {"put": 0, "get": 0, "list": 0, "delete": 0}
        pattern = r'^brainy_store_requests_total\{(.*)\} ([0-9.e+]+)$'
        for labels, value in re.findall(pattern, text, re.MULTILINE):
            # Conditional PUTs cost as much, also those that lose.
            kind = re.search(r'op="([a-z]+)', labels).group(1)
            kinds["get" if kind == "head" else kind] += int(float(value))
        for name in ("written", "read"):
            pattern = rf"^brainy_store_{name}_bytes_total ([0-9.e+]+)$"
            kinds[name] = int(float(re.search(pattern, text, re.MULTILINE).group(1)))
        return kinds


def upsert(client, ids, vectors, metadata, collection=COLLECTION):
    """One request with all rows in columns; waits and sends it again when there is backpressure."""
    body = json.dumps({"columns": {"ids": ids, "metadata": metadata, "vectors": "@"}}).encode()
    # json.dumps would look at every character of the base64 for something to escape.
    body = body.replace(b'"@"', b'"' + base64.b64encode(vectors.data) + b'"', 1)
    return patiently(client, f"/v1/collections/{collection}/vectors", body)


def patiently(client, path, body):
    while True:
        try:
            return client.post(path, body)
        except Refused as fault:
            if fault.status != 429:
                raise
            time.sleep(0.05)


def search_path(collection=COLLECTION):
    return f"/v1/collections/{collection}/search"


def wait_until_indexed(server, args, collection=COLLECTION):
    """Until every row is in segments; returns the seconds that this took."""
    return wait(server, args, collection, 0)


def wait_until_settled(server, args, collection=COLLECTION):
    """Until every row is in segments and nothing is rewritten any more."""
    return wait(server, args, collection, SETTLED_SECONDS)


def wait(server, args, collection, settled_seconds):
    """Until all is indexed and the stats have not changed for so long. Returns the seconds until
    it was so, without those in which it only stayed so; None with --no-wait."""
    if args.no_wait:
        return None
    started = changed = time.monotonic()
    before, indexed = None, False
    while True:
        stats = server.stats(collection)
        now = time.monotonic()
        # A merge of many rows changes nothing for minutes, until it is done.
        if stats != before or (settled_seconds and server.is_at_work()):
            before, changed = stats, now
        indexed = stats["indexedVersion"] == stats["version"]
        if indexed and now - changed >= settled_seconds:
            progress(f"{collection}: indexed after {changed - started:.1f} s")
            return changed - started
        if now - started > args.wait_seconds:
            sys.exit(f"{collection}: not indexed after {args.wait_seconds} s, the stats are {stats}; "
                     "--no-wait goes on without")
        time.sleep(POLL_SECONDS)
