#!/usr/bin/env python3
"""Brainy served over HTTP, as its users have it: latency, throughput, recall, cost and correctness.

    benches/serve.py COMMAND [options]      benches/serve.py COMMAND --help

    peers                 p50, p99, QPS, recall and ingest against Chroma's server and LanceDB
    filters               filtered searches of 50 % to 0.1 %, random, near to and far from the query
    parts                 the same collection in 1, 4 and 16 partitions
    tail                  what rows that are not indexed yet add to a search
    ingest-to-compacted   bytes and PUTs written per vector until all is indexed and compacted
    upserts               requests and bytes of a pass of random upserts of 1 % of the ids
    millions              millions of rows on one instance: times, memory, segments, latency, recall
    churn                 upserts, deletes and searches at once, checked against a model outside

Every command starts its own servers on free ports with stores in a temporary folder, runs --rounds
rounds, and prints the median (and range) over them. Searches are sent by wrk, one thread of it,
over keep-alive connections; `peers` prints `GET /health/live` through the same as the floor: what of
each figure is the client, the kernel and HTTP. Vectors of searches are JSON arrays.

What could mislead: the load generator shares the cores with the servers, so more connections than
cores measure the two together. Percentiles of wrk are corrected for coordinated omission (a slow
answer counts also for the requests that it held up), which raises p99; times taken in Python are
corrected in the same way. A recall belongs to the data set, and a debug build to no table.

The Python packages, pinned, are installed into an environment of their own in the cache (see
scripts/tool). BRAINY_TEST_BIN names another binary than the one that is shipped (profile dist), BRAINY_TEST_DATA another
folder than ../shared/data.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = "BRAINY_TEST_SERVE_PYTHON"
COMMANDS = ["peers", "filters", "parts", "tail", "ingest-to-compacted", "upserts", "churn",
            "millions"]


def inside_serve_python():
    """Runs this script again in an environment that has the peers, made in the cache."""
    if os.environ.get(ENVIRONMENT):
        return
    tool = [ROOT / "scripts" / "tool", "serve-python"]
    python = subprocess.run(tool, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    os.environ[ENVIRONMENT] = python
    # What numpy computes here must not take the cores from what is measured.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])


def options(modules):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in modules.items():
        command = commands.add_parser(
            name, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        shared_options(command, module.DEFAULTS)
        module.options(command)
        command.set_defaults(run=module.run)
    return parser.parse_args()


def shared_options(command, defaults):
    number = {"type": positive, "metavar": "N"}
    command.add_argument("--data", type=Path, default=data_folder(), help="folder of the data sets")
    command.add_argument("--rows", default=defaults["rows"], **number)
    command.add_argument("--queries", default=1_000, help="how many of the data set's", **number)
    command.add_argument("--rounds", default=defaults["rounds"], **number)
    command.add_argument("--seconds", default=defaults.get("seconds", 10),
                         help="of each measurement of searches", **number)
    command.add_argument("--wait-seconds", default=1_800, help="for the index, at most", **number)
    command.add_argument("--no-wait", action="store_true",
                         help="do not wait for the index, for a build that has none")
    command.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures")


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def data_folder():
    return Path(os.environ.get("BRAINY_TEST_DATA", ROOT.parent / "shared" / "data"))


def main():
    os.environ.setdefault("BRAINY_LOG_LEVEL", "warn")
    inside_serve_python()
    sys.stdout.reconfigure(line_buffering=True)
    # So that servers are ended and folders removed also then.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    from importlib import import_module

    modules = {
        name: import_module("serve_py." + name.replace("-", "_").replace("ingest_to_", ""))
        for name in COMMANDS
    }
    args = options(modules)
    if not os.environ.get("BRAINY_TEST_BIN"):
        subprocess.run(["cargo", "build", "--profile", "dist", "--bin", "brainy"], cwd=ROOT, check=True)
    sys.exit(args.run(args))


if __name__ == "__main__":
    main()
