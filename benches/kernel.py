#!/usr/bin/env python3
"""Build time, memory and searches per second at equal recall: Brainy's index against its peers.

    benches/kernel.py --data DIR|--random ROWSxDIMENSIONS --metric euclidean|cosine|dot [--lengths SIGMA]
        [--engines a,b,...] [--rounds 7] [--threads 2] [--full-precision] [--filters] [--merge] [--parts 1,4,16] [--json FILE] [--picture FILE.png]

DIR holds base.npy, queries.npy (u8, f16 or f32 rows) and ground_truth.npy (row numbers, best first).
--random draws rows and queries in all directions instead. With --lengths every row has the length
exp(N(0, SIGMA)), whatever it had, and what is nearest is computed anew.
Every engine builds once with --threads threads, one after another, and searches with one thread
through its batch call. A coarse sweep finds the search widths around each recall; then every
engine runs its widths once per round, so noise of the machine hits all alike.

The peers come from PyPI into an environment of their own in the cache; one that cannot be installed
or refuses to run is reported and left out. BRAINY_TEST_KERNEL_BIN names another binary than the
release build of benches/kernel.
"""

import argparse
import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
PACKAGES = [
    "numpy==2.4.6",
    "hnswlib==0.8.0",
    "faiss-cpu==1.15.1",
    "usearch==2.26.6",
    "scalable-vs==0.5.0",
    "rabitqlib==0.7.1",
    "pyvsag==0.18.5",
    "scann==1.4.2",
    "qdrant-edge-py==0.9.0",
    "matplotlib==3.11.2",
]


def inside_kernel_python():
    """Runs this script again in an environment that has the peers, made in the cache."""
    if os.environ.get("BRAINY_TEST_KERNEL_PYTHON"):
        return
    cache = Path(os.environ.get("BRAINY_TEST_CACHE") or Path.home() / ".cache" / "brainy-ci")
    venv = cache / "venvs" / "kernel"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with open(cache / "kernel.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (venv / "bin" / "pip").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        # One by one, so that a peer without a build for this machine costs only itself.
        for package in PACKAGES:
            marker = venv / f".has-{package}"
            if marker.exists():
                continue
            pip = [venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
            said = subprocess.run([*pip, package], stderr=subprocess.PIPE, text=True)
            if said.returncode == 0:
                marker.touch()
                continue
            reason = (said.stderr.strip() or "pip failed").splitlines()[-1]
            print(f"{package} was not installed: {reason}", file=sys.stderr)
            if package.startswith("numpy"):
                sys.exit(1)
    # What numpy computes here must not take the cores from what is measured.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    python = str(venv / "bin" / "python")
    os.environ["BRAINY_TEST_KERNEL_PYTHON"] = python
    os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])


class OneLine(argparse.ArgumentParser):
    def error(self, message):
        usage(message)


def options():
    parser = OneLine(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--random", type=shape, metavar="ROWSxDIMENSIONS", help="rows in all directions")
    parser.add_argument("--lengths", type=float, metavar="SIGMA", help="lengths of exp(N(0, SIGMA))")
    parser.add_argument("--metric", choices=["euclidean", "cosine", "dot"], required=True)
    parser.add_argument("--engines", help="a,b,...; all but svs-lvq8 and svs-leanvec without it")
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--threads", type=positive, default=2, help="of a build")
    parser.add_argument("--full-precision", action="store_true",
                        help="Brainy measures its best results again by the float32 vectors, as a server does")
    parser.add_argument("--filters", action="store_true", help="also search with rows left out")
    parser.add_argument("--merge", action="store_true", help="also merge two halves, and leave rows out of an index")
    parser.add_argument("--clusters", action="store_true",
                        help="also say what the clusters nearest to a query hold")
    parser.add_argument("--parts", type=positives, metavar="N,...",
                        help="also search the rows in so many parts, and without a graph")
    parser.add_argument("--json", type=Path, help="write every point")
    parser.add_argument("--picture", type=Path, help="draw recall against searches per second")
    args = parser.parse_args()
    if (args.data is None) == (args.random is None):
        parser.error("either --data or --random says what the rows are")
    return args


def shape(text):
    rows, dimensions = text.split("x")
    return positive(rows), positive(dimensions)


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def positives(text):
    return [positive(number) for number in text.split(",")]


def main():
    args = options()
    inside_kernel_python()
    sys.stdout.reconfigure(line_buffering=True)
    from kernel_py import clusters, data, engines, filters, measure, merge, parts, report

    try:
        made = tempfile.TemporaryDirectory(prefix="brainy-kernel-")
        folder = args.data
        if args.random or args.lengths is not None:
            folder = Path(made.name)
            data.make(folder, args.data, args.random, args.lengths, args.metric)
        rows = data.load(folder, args.metric)
        rows.full_precision = args.full_precision
        names = engines.names(args.engines)
    except data.Unusable as fault:
        usage(fault)
    chosen, refused = engines.build(names, rows, args)
    try:
        runs = measure.run(chosen, refused, rows, args)
        report.main_table(runs, refused, rows, args)
        if args.json:
            report.write_json(runs, args.json)
        if args.picture:
            report.draw(runs, rows, args)
        if args.filters:
            filters.run(chosen, rows, args)
        if args.merge:
            merge.run(runs, rows, args)
        if args.clusters:
            clusters.run(runs, rows)
        if args.parts:
            parts.run(rows, args)
    finally:
        for engine in chosen:
            engine.close()


def usage(fault):
    print(f"{Path(__file__).name}: {fault}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
