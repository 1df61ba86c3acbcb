"""How long a start takes, from the command to ready: of this checkout, and of the binary.

    python -m bench.start [--starts N] [--json]

Each start is on the same data directory, which an earlier one has made and which was closed in
order: PostgreSQL's own start is in it, `initdb` is not. The binary is dist/dpp of `make binary`; it
is left out where that is not there. In turn, so that what else the machine does meets both. Beside
it stands the shortest command, `dpp version`: what interpreter and imports of commands take.
And the processor's time of the node until then, which other work on the machine hardly changes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.node_process import NodeProcess, node_process

CHECKOUT = (sys.executable, "-m", "dpp")
BINARY = Path(__file__).resolve().parents[1] / "dist/dpp/dpp"
READY_S = 3.0  # what is promised, of the median


def version_s(program: Sequence[str]) -> float:
    """Return the seconds that `dpp version` takes."""
    began_at = time.perf_counter()
    subprocess.run([*program, "version"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_at


def ready_s(node: NodeProcess, program: Sequence[str]) -> tuple[float, float]:
    """Return the seconds until the node answers /readyz, of time and of processor; let it drain."""
    node.program = program
    node.start()
    fields = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()  # from state on
    cpu_s = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    assert node.terminate() == 0
    return node.ready_s, cpu_s


def figures(taken: Sequence[float]) -> dict[str, float]:
    """Return what is shown of some starts, in seconds."""
    return {
        "median_s": round(statistics.median(taken), 3),
        "min_s": round(min(taken), 3),
        "max_s": round(max(taken), 3),
    }


def measured(programs: dict[str, tuple[str, ...]], starts: int) -> dict[str, dict[str, float]]:
    """Start each so often; return the figures by what was started."""
    taken: dict[str, list[float]] = {}
    with node_process(env={"DPP_LOG__LEVEL": "CRITICAL"}) as node:
        for program in programs.values():  # makes the data, and warms the machine's cache of files
            ready_s(node, program)
        for _ in range(starts):
            for name, program in programs.items():
                taken.setdefault(f"{name}, version", []).append(version_s(program))
                ready, cpu = ready_s(node, program)
                taken.setdefault(f"{name}, ready", []).append(ready)
                taken.setdefault(f"{name}, processor", []).append(cpu)
    return {name: figures(times) for name, times in taken.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.start", description=__doc__.split("\n")[0])
    parser.add_argument("--starts", type=int, default=10, help="of each; 10 by default")
    parser.add_argument("--json", action="store_true", help="one document instead of lines")
    words = parser.parse_args()

    programs: dict[str, tuple[str, ...]] = {"checkout": CHECKOUT}
    if BINARY.exists():
        programs["binary"] = (str(BINARY),)
    else:
        print("no binary in dist/dpp: `make binary` builds it", file=sys.stderr)
    found = measured(programs, words.starts)

    if words.json:
        print(json.dumps({"starts": words.starts, "promised_s": READY_S, "figures": found}))
        return
    print(f"{words.starts} starts each, median and range; promised: ready in {READY_S:g} s, median")
    for name, one in found.items():
        print(f"{name:19} {one['median_s']:.2f} s   {one['min_s']:.2f} to {one['max_s']:.2f}")


if __name__ == "__main__":
    main()
