#!/usr/bin/env python3
"""Does an instance survive what single requests may ask of it, and do others notice?

    benches/limits.py memory [--brainy target/debug/brainy] [--room-mib 1536]
        limits the address space of an instance to what it takes at rest and so much more, and sends at
        once: batches of searches with large answers, one id fetched 10,000 times, bodies of 2 KB of zstd
        that become 64 MB, large bodies, large filters. It fails if the instance dies.
    benches/limits.py dear [--brainy target/debug/brainy] [--rows 50000]
        filtered searches alone, and beside one with a filter of 1,000 $contains whose client leaves.

Needs Linux and Python 3, and nothing else.
"""

import argparse
import base64
import concurrent.futures
import http.client
import json
import os
import random
import resource
import socket
import struct
import subprocess
import tempfile
import threading
import time

MIB = 1 << 20


class Instance:
    def __init__(self, brainy, *settings):
        self.folder = tempfile.TemporaryDirectory()
        log = open(os.path.join(self.folder.name, "log"), "w+")
        command = [brainy, "serve", "--store", "memory:", "--listen", "127.0.0.1:0"]
        for setting in ("index_enabled=false", *settings):
            command += ["--set", setting]
        # glibc reserves address space for each thread's arena; two are enough to be measured by.
        environment = dict(os.environ, MALLOC_ARENA_MAX="2")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        line = self.process.stdout.readline()
        assert "listening on" in line, line
        host, port = line.strip().rsplit("/", 1)[1].split(":")
        self.address = (host, int(port))
        self.log = log

    def status(self, name):
        with open(f"/proc/{self.process.pid}/status") as file:
            for line in file:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) * 1024
        return 0

    def alive(self):
        return self.process.poll() is None

    def ask(self, method, path, body=None, headers=None, timeout=120):
        """Status, seconds and the answer's bytes; a status of 0 where it was cut while the body was sent."""
        headers = {"content-type": "application/json", **(headers or {})}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        start = time.monotonic()
        connection = http.client.HTTPConnection(*self.address, timeout=timeout)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, time.monotonic() - start, content
        except (OSError, http.client.HTTPException) as error:
            return 0, time.monotonic() - start, str(error).encode()
        finally:
            connection.close()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.seek(0)
        return self.log.read()[-2_000:]


def vector(dimensions, seed):
    values = random.Random(seed)
    floats = [values.random() + 0.01 for _ in range(dimensions)]
    return base64.b64encode(struct.pack(f"<{dimensions}f", *floats)).decode()


def load(instance, collection, count, dimensions, text_bytes=0, each=1_000):
    for first in range(0, count, each):
        rows = [{"id": f"r{n}", "vector": vector(dimensions, n),
                 **({"text": "x" * text_bytes} if text_bytes else {})}
                for n in range(first, min(first + each, count))]
        status, _, answer = instance.ask(
            "POST", f"/v1/collections/{collection}/vectors", {"vectors": rows})
        assert status == 200, answer


def bomb():
    """64 MiB of blanks in 2 KB of zstd: 512 blocks that repeat one byte 131,072 times."""
    frame = bytes.fromhex("28b52ffd") + bytes([0x00, 7 << 3])
    for block in range(512):
        header = (131_072 << 3) | (1 << 1) | (block == 511)
        frame += struct.pack("<I", header)[:3] + b" "
    return frame


def situations():
    batch = lambda count: {"searches": [{"id": "r1", "k": 10_000, "includeVector": True}] * count}
    at = "/v1/collections"
    zstd = {"content-encoding": "zstd"}
    digits = b"0," * (15 * MIB) + b"0"
    yield from [("250 searches of 128 dimensions", "POST", f"{at}/narrow/search/batch", batch(250), None)] * 4
    yield from [("60 searches of 1,024 dimensions", "POST", f"{at}/wide/search/batch", batch(60), None)] * 4
    yield from [("one id 10,000 times", "POST", f"{at}/texts/vectors/fetch", {"ids": ["r1"] * 10_000}, None)] * 4
    yield from [("200 texts of 500 KB", "POST", f"{at}/texts/vectors/fetch",
                 {"ids": [f"r{n}" for n in range(200)]}, None)] * 4
    yield from [("a page of texts", "GET", f"{at}/texts/vectors?limit=10000", None, None)] * 4
    yield from [("2 KB of zstd, 64 MiB", "POST", f"{at}/narrow/search", bomb(), zstd)] * 50
    yield from [("a body of 60 MB", "POST", f"{at}/narrow/search", b" " * 60_000_000, None)] * 8
    yield from [("a filter of 30 MB", "POST", f"{at}/narrow/search",
                 b'{"id": "r1", "filter": {"n": {"$in": [' + digits + b"]}}}", None)] * 4
    yield from [("ids without end", "POST", f"{at}/narrow/vectors/fetch",
                 b'{"ids": [' + b'"",' * (15 * MIB) + b'""]}', None)] * 4
    yield from [("a large value of the shared state", "PUT", "/cluster/state/key",
                 b'{"value": [' + digits + b"]}", None)] * 4
    yield from [("an import of a line of 15 MB", "POST", f"{at}/narrow/import",
                 b'{"id": "' + b"x" * 15_000_000 + b'"}\n', None)] * 8


def memory(arguments):
    instance = Instance(arguments.brainy)
    for collection, rows, dimensions, text_bytes in [
            ("narrow", 10_000, 128, 0), ("wide", 4_000, 1_024, 0), ("texts", 200, 8, 500_000)]:
        load(instance, collection, rows, dimensions, text_bytes, 20 if text_bytes else 1_000)
        start, status = time.monotonic(), 0
        while status != 200:
            status, _, _ = instance.ask("POST", f"/v1/collections/{collection}/search", {"id": "r1"})
        print(f"{collection}: {rows} rows, read after {time.monotonic() - start:.1f} s")
    space, resident = instance.status("VmSize"), instance.status("VmRSS")
    limit = space + arguments.room_mib * MIB
    resource.prlimit(instance.process.pid, resource.RLIMIT_AS, (limit, limit))
    print(f"at rest: {space // MIB} MiB of address space, {resident // MIB} MiB resident; "
          f"limit {limit // MIB} MiB")
    asked = list(situations())
    random.Random(1).shuffle(asked)
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
        futures = [(name, pool.submit(instance.ask, method, path, body, headers))
                   for name, method, path, body, headers in asked]
        outcomes = {}
        for name, future in futures:
            status, seconds, _ = future.result()
            outcomes.setdefault(name, []).append((status, round(seconds, 1)))
    for name, each in sorted(outcomes.items()):
        counts = {status: sum(1 for one, _ in each if one == status) for status, _ in each}
        print(f"{name}: {counts}, slowest {max(seconds for _, seconds in each)} s")
    peak = instance.status("VmHWM")
    print(f"peak resident {peak // MIB} MiB, {(peak - resident) // MIB} MiB above rest")
    alive = instance.alive()
    status, _, _ = instance.ask("POST", "/v1/collections/narrow/search", {"id": "r1"}) if alive else (0, 0, 0)
    log = instance.stop()
    broken = [name for name, each in outcomes.items() if any(status == 500 for status, _ in each)]
    assert alive and status == 200 and not broken, f"{broken}, then {status}:\n{log}"
    print("the instance lives and answers")


def percentiles(seconds):
    ordered = sorted(seconds)
    pick = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1_000
    return f"p50 {pick(0.5):.1f} ms, p99 {pick(0.99):.1f} ms ({len(ordered)} searches)"


def dear(arguments):
    instance = Instance(arguments.brainy)
    words = [f"word{n}" for n in range(5_000)]
    for first in range(0, arguments.rows, 1_000):
        rows = []
        for n in range(first, first + 1_000):
            pick = random.Random(n)
            text = " ".join(pick.choice(words) for _ in range(150))
            rows.append({"id": f"r{n}", "vector": vector(64, n),
                         "metadata": {"t": text, "g": n % 10, "n": n}})
        status, _, answer = instance.ask("POST", "/v1/collections/things/vectors", {"vectors": rows})
        assert status == 200, answer
    path = "/v1/collections/things/search"

    def others(seconds):
        end, took = time.monotonic() + seconds, []
        while time.monotonic() < end:
            body = {"vector": vector(64, len(took)), "k": 10, "filter": {"g": len(took) % 10}}
            status, each, answer = instance.ask("POST", path, body)
            assert status == 200, answer
            took.append(each)
        return took

    others(3)
    print("others alone:", percentiles(others(10)))
    shapes = {
        "any of 1,000 words": {"$or": [{"t": {"$contains": f"absent{n}"}} for n in range(1_000)]},
        "none of 500 words": {"$and": [{"$not": {"t": {"$contains": f"absent{n}"}}} for n in range(500)]},
    }
    for name, filter in shapes.items():
        body = json.dumps({"vector": vector(64, 1), "k": 10_000, "filter": filter})
        request = (f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                   f"content-length: {len(body)}\r\n\r\n{body}").encode()
        leaves = threading.Event()

        def leave():
            while not leaves.is_set():
                with socket.create_connection(instance.address) as client:
                    client.sendall(request)
                    client.settimeout(2)
                    try:
                        client.recv(1)
                    except TimeoutError:
                        pass

        client = threading.Thread(target=leave)
        client.start()
        print(f"others beside {name}:", percentiles(others(10)))
        leaves.set()
        client.join()
        start = cpu(instance)
        time.sleep(1)
        print(f"  once its client has left: {cpu(instance) - start:.2f} s of CPU in the next second")
        status, seconds, _ = instance.ask("POST", path, body.encode())
        print(f"  the search itself: {seconds:.1f} s, {status}")
    metrics = instance.ask("GET", "/metrics")[2].decode()
    print(*[line for line in metrics.splitlines() if line.startswith("brainy_searches_")], sep="\n")
    instance.stop()


def cpu(instance):
    with open(f"/proc/{instance.process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["memory", "dear"])
    parser.add_argument("--brainy", default="target/debug/brainy")
    parser.add_argument("--room-mib", type=int, default=1_536)
    parser.add_argument("--rows", type=int, default=50_000)
    arguments = parser.parse_args()
    {"memory": memory, "dear": dear}[arguments.what](arguments)


if __name__ == "__main__":
    main()
