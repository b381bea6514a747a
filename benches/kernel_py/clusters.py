"""What a reader finds that reads only the clusters nearest to a query."""

from .brainy import Brainy
from .data import K

SHARES = (0.01, 0.02, 0.05, 0.1)


def run(runs, rows):
    ours = next((run.engine for run in runs if run.engine.name == Brainy.name), None)
    if ours is None:
        print("\n--clusters was left out: it needs brainy")
        return
    truth = rows.truth[:, :K].tolist()
    answers = [
        (share, ours.ask({"op": "clusters", "share": share, "truth": truth})) for share in SHARES
    ]
    first = answers[0][1]
    print(f"\nclusters: {first['clusters']}, a directory of {first['bytes'] / 1024:.0f} KiB")
    print(f"{'rows read':>10} {'ranges':>8} {'true rows in them':>18}")
    for share, answer in answers:
        print(f"{share:10.0%} {answer['ranges']:8.1f} {answer['found']:18.3f}")
