#!/usr/bin/env python3
"""What HTTP costs: p50 and p99 of a search of an empty collection, at 1 and 32 connections.

    benches/http_overhead.py [--seconds 10] [--connections 1,32]

`/health/live` beside it is the floor: the same server, connection and client, without parsing a
body, looking up a collection or answering JSON. What the engine says it took is subtracted last.
Uses wrk; BRAINY_TEST_BIN names another binary than the one that is shipped (profile dist).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = os.environ.get("BRAINY_TEST_BIN", ROOT / "target" / "dist" / "brainy")
DIMENSIONS = 384
SEARCH = "/v1/collections/empty/search"
# wrk's own summary is rounded; this prints microseconds.
REPORT = """
done = function(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read +
    summary.errors.write + summary.errors.timeout
  io.write(string.format("RESULT %d %d %d %d %d\\n", latency:percentile(50),
    latency:percentile(99), summary.requests, summary.duration, bad))
end
"""


def main():
    os.environ.setdefault("BRAINY_LOG_LEVEL", "warn")
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=lambda t: list(map(int, t.split(","))), default=[1, 32])
    args = parser.parse_args()
    tool = [ROOT / "scripts" / "tool", "wrk"]
    wrk = subprocess.run(tool, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    if not os.environ.get("BRAINY_TEST_BIN"):
        subprocess.run(["cargo", "build", "--profile", "dist", "--bin", "brainy"], cwd=ROOT, check=True)
    command = [BINARY, "serve", "--store", "memory:", "--role", "hybrid", "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        if not line.startswith("listening on "):
            sys.exit(f"brainy did not start: {line!r}")
        measure(wrk, line.removeprefix("listening on ").strip(), args)
    finally:
        server.kill()
        server.wait()


def measure(wrk, url, args):
    post(url + "/v1/collections", {"name": "empty", "dimensions": DIMENSIONS, "metric": "cosine"})
    body = json.dumps({"vector": [round(0.01 * n, 2) for n in range(1, DIMENSIONS + 1)], "k": 10})
    print(f"{'request':22} {'connections':>11} {'p50 us':>8} {'p99 us':>8} {'requests/s':>11}")
    for connections in args.connections:
        before = engine_time(url)
        run(wrk, url, "search, array", SEARCH, body, connections, args.seconds)
        seconds, searches = (now - then for now, then in zip(engine_time(url), before))
        run(wrk, url, "live (the floor)", "/health/live", None, connections, args.seconds)
        print(f"{'engine, mean':22} {connections:11} {1e6 * seconds / max(searches, 1):8.1f}")


def run(wrk, url, label, path, body, connections, seconds):
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if body:
            script.write('wrk.method = "POST"\nwrk.headers["content-type"] = "application/json"\n')
            script.write(f"wrk.body = [[{body}]]\n")
        script.write(REPORT)
        script.flush()
        command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script.name, url + path]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = re.search(r"^RESULT (\d+) (\d+) (\d+) (\d+) (\d+)$", output, re.MULTILINE)
    if not found:
        sys.exit(f"wrk said:\n{output}")
    p50, p99, requests, micros, bad = map(int, found.groups())
    if bad:
        sys.exit(f"{label}: {bad} of {requests} requests failed")
    print(f"{label:22} {connections:11} {p50:8} {p99:8} {1e6 * requests / micros:11.0f}", flush=True)


def engine_time(url):
    """Seconds that searches took inside the engine, and how many there were."""
    with urllib.request.urlopen(url + "/metrics") as answer:
        text = answer.read().decode()

    def value(name):
        found = re.search(rf"^{name} ([0-9.e+-]+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else sys.exit(f"/metrics has no {name}")

    return value("brainy_search_seconds_sum"), value("brainy_search_seconds_count")


def post(url, body):
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)):
        pass


if __name__ == "__main__":
    main()
