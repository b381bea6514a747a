"""The table, the JSON and the picture."""

import json
import os
import platform
import re
import statistics
from pathlib import Path

from .data import K
from .measure import TARGETS, median_and_best


def main_table(runs, refused, rows, args):
    print(f"\n{rows.folder.resolve().name}: {rows.count} x {rows.dimensions}, {rows.metric}, "
          f"{len(rows.queries)} queries, k = {K}, {args.rounds} rounds")
    print(f"{platform.system()} {platform.machine()}, {cpu()}, {os.cpu_count()} CPUs; "
          f"builds with {args.threads} threads, searches with 1")
    print(", ".join(f"{run.engine.name} {run.engine.version}" for run in runs))
    print(f"\n{'engine':12} {'build s':>8} {'bytes/vec':>10}", end="")
    print("".join(f" {f'searches/s at {target}':>24}" for target in TARGETS))
    for run in runs:
        engine = run.engine
        print(f"{engine.name:12} {engine.build_seconds:8.2f} {engine.bytes_per_vector:10.1f}", end="")
        for target in TARGETS:
            rates = run.at_each(target, args.rounds)
            text = "never" if rates is None else "{:.0f} [{:.0f}]".format(*median_and_best(rates))
            print(f" {text:>24}", end="")
        print()
    ratios(runs, args)
    notes(runs, refused)


def ratios(runs, args):
    ours = next((run for run in runs if run.engine.name == "brainy"), None)
    if ours is None:
        return
    print(f"\n{'brainy /':12} {'build s':>8} {'':10}", end="")
    print("".join(f" {f'searches/s at {target}':>24}" for target in TARGETS))
    for run in runs:
        if run is ours:
            continue
        build = ours.engine.build_seconds / run.engine.build_seconds
        print(f"{run.engine.name:12} {f'{build:.2f}x':>8} {'':10}", end="")
        for target in TARGETS:
            print(f" {ratio(ours, run, target, args.rounds):>24}", end="")
        print()


def ratio(ours, theirs, target, rounds):
    rates = [run.at_each(target, rounds) for run in (ours, theirs)]
    if None in rates:
        return "-"
    each = [our / their for our, their in zip(*rates)]
    return f"{statistics.median(each):.2f}x ({min(each):.2f}..{max(each):.2f})"


def notes(runs, refused):
    print("\nsearches/s: median of the rounds [best]; ratios: median (range) of each round's ratio")
    print("bytes/vec: beside the float32 vectors, which svs-lvq* and svs-leanvec do not keep: "
          "theirs is the whole index")
    print("  " + "; ".join(f"{run.engine.name}: {run.engine.bytes_from}" for run in runs))
    for run in runs:
        if run.engine.note:
            print(run.engine.note)
    for name, reason in refused.items():
        print(f"{name} was left out: {reason}")


def cpu():
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return found.group(1)
    except (OSError, AttributeError):
        return platform.processor() or "unknown CPU"


def write_json(runs, path):
    points = []
    for run in runs:
        for width, recall in run.recalls.items():
            median, best = median_and_best(run.rates[width])
            points.append({
                "engine": run.engine.name,
                "params": {**run.engine.params, "width": width},
                "buildSeconds": run.engine.build_seconds,
                "bytesPerVector": run.engine.bytes_per_vector,
                "recall": recall,
                "qps": median,
                "qpsBest": best,
                "qpsRounds": run.rates[width],
            })
    path.write_text(json.dumps(points, indent=1) + "\n")
    print(f"wrote {path}")


def draw(runs, rows, args):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(9, 6))
    for run in runs:
        points = [(recall, statistics.median(run.rates[width])) for width, recall in run.steps]
        ours = run.engine.name == "brainy"
        axes.plot(*zip(*points), marker="o", markersize=3, linewidth=2.5 if ours else 1.2,
                  label=run.engine.name, zorder=3 if ours else 2)
    axes.set_yscale("log")
    axes.set_xlim(0.8, 1.0)
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xlabel(f"recall@{K}")
    axes.set_ylabel("searches per second, one thread")
    axes.set_title(f"{rows.folder.resolve().name}: {rows.count:,} x {rows.dimensions}, {rows.metric}")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(args.picture, dpi=130)
    print(f"wrote {args.picture}")
