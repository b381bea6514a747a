"""The clients: they write, delete, search, list and export, and tell the model what they heard."""

import http.client
import json
import random
import threading
import time

from .model import SLACK_SECONDS

COLLECTION = "soak"
DIMENSIONS = 16
HOT = 8
# Longer than any freeze, so that an answer that comes is heard.
PATIENCE_SECONDS = 120
PAUSE_AFTER_FAULT_SECONDS = 0.1
# Statuses that promise that nothing was written.
REFUSALS = {400, 403, 404, 409, 413, 429}


class Refused(Exception):
    """An answer that is not 2xx."""

    def __init__(self, status, text):
        super().__init__(f"{status}: {text[:300]}")
        self.status = status


class Connection:
    """Keeps a connection to a server that may be killed and come back at the same port."""

    def __init__(self, server):
        self.server, self.connection = server, None

    def ask(self, method, path, body=None):
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE_SECONDS)
        data = None if body is None else json.dumps(body)
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            self.connection.request(method, path, data, headers)
            answer = self.connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            raise
        if not 200 <= answer.status < 300:
            raise Refused(answer.status, said.decode(errors="replace"))
        return answer.headers, said


class Client(threading.Thread):
    """One client in a thread of its own, until `over`."""

    def __init__(self, soak, server, number):
        super().__init__(daemon=True)
        self.soak, self.model, self.server = soak, soak.model, server
        self.chooser = random.Random(f"{soak.args.seed}-{type(self).__name__}-{number}")
        self.connection = Connection(server)
        self.number, self.done, self.cut, self.refusals = number, 0, 0, 0
        self.latencies = []

    def run(self):
        while not self.soak.over.is_set():
            try:
                self.step()
            except Exception as fault:  # A defect of this script must not end the soak unnoticed.
                self.model.fault("the script failed", repr(fault))
                raise

    def vector(self):
        return [round(self.chooser.gauss(0, 1), 3) for _ in range(DIMENSIONS)]


class Writer(Client):
    """Writes ids of its own. A write is sent when the one before it was answered."""

    def step(self):
        kind = self.chooser.random()
        if kind < 0.75:
            self.upsert()
        elif kind < 0.95:
            self.delete()
        else:
            self.sweep()
        if self.soak.args.pause_ms:
            time.sleep(self.soak.args.pause_ms / 1000)

    def ids(self, most):
        count = self.chooser.randint(1, most)
        own = [f"w{self.number}-{self.chooser.randrange(self.soak.args.ids)}" for _ in range(count)]
        return sorted(set(own))

    def upsert(self):
        begun, records = [], []
        for identifier in self.ids(20):
            hot, vector = self.chooser.randrange(HOT), self.vector()
            write = self.model.begin(identifier, hot, vector)
            begun.append((identifier, write))
            record = {"id": identifier, "vector": vector, "metadata": {"stamp": write.stamp, "hot": hot}}
            if self.chooser.random() < 0.1:
                record["text"] = "a text " * self.chooser.randrange(300)
            records.append(record)
        self.send("POST", f"/v1/collections/{COLLECTION}/vectors", {"vectors": records}, begun)

    def delete(self):
        begun = [(identifier, self.model.begin(identifier, None, None)) for identifier in self.ids(10)]
        body = {"ids": [identifier for identifier, _ in begun]}
        self.send("POST", f"/v1/collections/{COLLECTION}/vectors/delete", body, begun)

    def sweep(self):
        hot = self.chooser.randrange(HOT)
        sweep = self.model.begin_sweep(hot)
        # Few enough that something is left of what all write.
        body = {"filter": {"$and": [{"hot": hot}, {"stamp": {"$gte": 0}}]}}
        answer = self.send("POST", f"/v1/collections/{COLLECTION}/vectors/delete", body, [], sweep)
        if answer is not None and "asOf" not in answer:
            self.model.fault("an answer without asOf", str(answer))

    def send(self, method, path, body, begun, sweep=None):
        started = time.monotonic()
        try:
            answer = json.loads(self.connection.ask(method, path, body)[1])
        except Refused as fault:
            self.refusals += 1
            self.soak.refused(self, fault)
            if fault.status in REFUSALS:
                for identifier, write in begun:
                    self.model.refused(identifier, write)
                if sweep is not None:
                    self.model.refused_sweep(sweep)
            time.sleep(PAUSE_AFTER_FAULT_SECONDS)
            return None
        except (OSError, http.client.HTTPException):
            self.cut += 1
            time.sleep(PAUSE_AFTER_FAULT_SECONDS)
            return None
        if sweep is not None:
            sweep.as_of = answer.get("asOf", answer["version"])
            begun = [(None, sweep)]
        self.model.acknowledge([thing for _, thing in begun], answer["version"])
        self.done += 1
        self.latencies.append((started, time.monotonic() - started))
        return answer


class Reader(Client):
    """Reads by every call, and has the model check what is shown."""

    def __init__(self, *args):
        super().__init__(*args)
        self.before, self.life, self.stalest = 0, 0, 0.0
        self.calls = [self.search, self.search, self.search, self.listing, self.export]

    def step(self):
        if self.life != self.server.lives:
            # Versions never go backward within one life of a reader.
            self.life, self.before = self.server.lives, 0
        life, started = self.life, time.monotonic()
        try:
            version, asked, floor, who = self.chooser.choice(self.calls)()
        except Refused as fault:
            self.refusals += 1
            self.soak.refused(self, fault)
            time.sleep(PAUSE_AFTER_FAULT_SECONDS)
            return
        except (OSError, http.client.HTTPException):
            self.cut += 1
            time.sleep(PAUSE_AFTER_FAULT_SECONDS)
            return
        self.done += 1
        self.latencies.append((started, time.monotonic() - started))
        if version < floor:
            self.model.fault("an old version", f"{who}: {version} where {floor} was acknowledged")
        if life == self.server.lives and version < self.before:
            self.model.fault("a version that went backward", f"{who}: {version} after {self.before}")
        self.before = max(self.before, version)
        stale = self.model.staleness(version, asked)
        self.stalest = max(self.stalest, stale)
        if stale > self.soak.args.stale_seconds + SLACK_SECONDS and not self.server.was_stopped_since(asked - stale):
            self.model.fault("stale", f"{who}: {version} is {stale:.2f} s old")
        time.sleep(0.02)

    def search(self):
        strong = self.chooser.random() < 0.5
        body = {"vector": self.vector(), "k": 20, "consistency": "strong" if strong else "eventual"}
        hot = self.chooser.randrange(HOT) if self.chooser.random() < 0.3 else None
        if hot is not None:
            body["filter"] = {"hot": hot}
        floor, asked = (self.model.newest() if strong else 0), time.monotonic()
        answer = json.loads(self.connection.ask("POST", f"/v1/collections/{COLLECTION}/search", body)[1])
        hits = [(hit["id"], hit["metadata"]["stamp"]) for hit in answer["results"]]
        if len({identifier for identifier, _ in hits}) < len(hits):
            self.model.fault("a record twice", str(hits))
        if hot is not None and any(hit["metadata"]["hot"] != hot for hit in answer["results"]):
            self.model.fault("a filter let others through", str(answer["results"])[:300])
        self.model.check_some(hits, answer["version"], f"a search on {self.server.name}")
        return answer["version"], asked, floor, "a search"

    def listing(self):
        asked = time.monotonic()
        path = f"/v1/collections/{COLLECTION}/vectors?limit=200"
        page = json.loads(self.connection.ask("GET", path)[1])
        found = [(record["id"], record["metadata"]["stamp"]) for record in page["vectors"]]
        if found != sorted(found):
            self.model.fault("a listing out of order", str(found[:5]))
        self.model.check_some(found, page["version"], f"a listing on {self.server.name}")
        return page["version"], asked, 0, "a listing"

    def export(self):
        asked = time.monotonic()
        headers, said = self.connection.ask("GET", f"/v1/collections/{COLLECTION}/export")
        version = int(headers["x-brainy-version"])
        self.model.check_all(exported(said), version, f"an export of {self.server.name}")
        return version, asked, 0, "an export"


def exported(said):
    """The stamps by id."""
    records = (json.loads(line) for line in said.splitlines())
    return {record["id"]: record["metadata"]["stamp"] for record in records}
