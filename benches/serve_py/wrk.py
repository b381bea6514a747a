"""The load generator: wrk, with requests from a file, and what it measured.

wrk's own summary is rounded, so a script of it prints microseconds. It corrects its percentiles for
coordinated omission: `corrected` does the same to times that were taken here.
"""

import base64
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from kernel_py.data import K

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = """
local requests, at = {}, 0
function init(args)
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
  for line in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format(nil, nil, nil, line)
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
"""
REPORT = """
done = function(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read +
    summary.errors.write + summary.errors.timeout
  io.write(string.format("RESULT %d %d %d %d %d\\n", latency:percentile(50),
    latency:percentile(99), summary.requests, summary.duration, bad))
end
"""
TIMEOUT_SECONDS = 60
WARM_SECONDS = 1
FLOOR_SECONDS = 3


class Wrk:
    def __init__(self, folder):
        self.folder = Path(folder)
        tool = [ROOT / "scripts" / "tool", "wrk"]
        found = subprocess.run(tool, check=True, stdout=subprocess.PIPE, text=True)
        self.program = found.stdout.strip()

    def searches(self, bodies):
        """Keeps the bodies of requests, one a line, for `run`."""
        with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".txt", delete=False) as file:
            file.writelines(body + "\n" for body in bodies)
        return file.name

    def run(self, url, searches, connections, seconds, warm=True):
        """p50 and p99 in microseconds and requests per second of these searches, sent in turns."""
        if warm:
            self.once(url, searches, connections, WARM_SECONDS)
        return self.once(url, searches, connections, seconds)

    def floor(self, url, connections):
        return self.once(url + "/health/live", None, connections, FLOOR_SECONDS)

    def once(self, url, searches, connections, seconds):
        with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".lua") as script:
            script.write((SCRIPT if searches else "") + REPORT)
            script.flush()
            command = [self.program, "-t1", f"-c{connections}", f"-d{seconds}s"]
            command += ["--timeout", f"{TIMEOUT_SECONDS}s", "-s", script.name, url]
            command += ["--", searches] if searches else []
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = re.search(r"^RESULT (\d+) (\d+) (\d+) (\d+) (\d+)$", output, re.MULTILINE)
        if not found:
            sys.exit(f"wrk said:\n{output}")
        p50, p99, requests, micros, bad = map(int, found.groups())
        if bad or not requests:
            sys.exit(f"{url}: {bad} of {requests} requests failed")
        return {"p50": p50, "p99": p99, "qps": 1e6 * requests / micros}


def vector_text(vector):
    """A vector as JSON, in as many digits as a 32-bit float has."""
    return "[" + ",".join(f"{number:.9g}" for number in vector.tolist()) + "]"


def base64_text(vector):
    return f'"{base64.b64encode(vector.data).decode()}"'


def search_bodies(queries, filters=None, text=vector_text):
    """Searches of Brainy that answer ids and distances; `filters`: one for each query."""
    for number, query in enumerate(queries):
        chosen = f',"filter":{json.dumps(filters[number])}' if filters else ""
        yield f'{{"vector":{text(query)},"k":{K},"includeMetadata":false{chosen}}}'


def corrected(seconds):
    """p50 and p99 in microseconds of answers to one connection, as wrk would say them."""
    micros = numpy.asarray(seconds) * 1e6
    interval = max(micros.mean(), 1.0)
    held_up = [
        numpy.arange(one - interval, interval, -interval) for one in micros[micros >= 2 * interval]
    ]
    micros = numpy.concatenate([micros, *held_up])
    return {"p50": float(numpy.median(micros)), "p99": float(numpy.percentile(micros, 99))}
