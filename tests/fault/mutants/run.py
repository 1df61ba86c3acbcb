"""Try every seeded bug: a copy of the tree with the bug in it, and the tests that must catch it.

    python -m tests.fault.mutants.run [--only TEXT] [--jobs N] [--json]

First all these tests run once without any bug, since one that fails then catches nothing. A bug is
caught when one of its tests fails with it, within five minutes. Ends with `mutants: N of N caught`,
and with 0 only then.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn

from attrs import asdict, frozen

from tests.fault.mutants.bugs import BUGS
from tests.fault.mutants.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from tests.fault.mutants.bug import Bug

LIMIT_S = 300.0  # a bug that takes longer to be noticed would not be, by who waits for its tests
JOBS = 2  # at once: one a core of a small machine
PASSED, SOME_FAILED = 0, 1  # as pytest exits; anything else is no verdict


@frozen
class Verdict:
    """What became of a bug; `by`: the test that noticed it."""

    bug: str
    verdict: str
    by: str | None
    seconds: float


def main() -> int:
    """Try the bugs that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="those whose name has this text")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"at once; {JOBS} by default")
    parser.add_argument("--json", action="store_true", help="all verdicts as one line of JSON")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, end)
    bugs = [bug for bug in BUGS if given.only.casefold() in bug.name.casefold()]
    verdicts = judged(bugs, given.jobs)
    caught = sum(one.verdict == "caught" for one in verdicts)
    if given.json:
        print(json.dumps([asdict(one) for one in verdicts]))
    print(f"mutants: {caught} of {len(bugs)} caught")
    return 0 if bugs and caught == len(bugs) else 1


def end(*_: object) -> NoReturn:
    """End at SIGTERM as at Ctrl-C: no copy and no process is left behind."""
    sys.exit(128 + signal.SIGTERM)


def judged(bugs: Sequence[Bug], jobs: int) -> list[Verdict]:
    """Return what became of these bugs, in their order."""
    began_at = time.monotonic()
    with workshop(jobs) as shop:
        wrong = failing_without(shop, sorted({name for bug in bugs for name in bug.tests}), jobs)
        done: dict[str, Verdict] = {}
        for verdict in shop.each(lambda tree, bug: tried(tree, bug, wrong), bugs):
            done[verdict.bug] = verdict
            tell(f"{len(done):>3}/{len(bugs)} {verdict.verdict:>8} {verdict.seconds:5.1f} s"
                 f"  {verdict.bug}")  # fmt: skip
    tell(f"all of that took {time.monotonic() - began_at:.0f} s")
    return [done[bug.name] for bug in bugs]


def failing_without(shop: Workshop, names: Sequence[str], jobs: int) -> frozenset[str]:
    """Return which of these tests fail, or cannot be told, without any bug."""
    tell(f"{len(names)} tests and files of tests without a bug")
    shares = [names[n::jobs] for n in range(jobs)]
    wrong: set[str] = set()
    for share, told in shop.each(
        lambda tree, share: (share, tree.test(share, limit_s=LIMIT_S)), [s for s in shares if s]
    ):
        if told.status == PASSED:
            continue
        failed = {name for name in share for one in told.failed if is_of(one, name)}
        wrong |= failed if failed and told.status == SOME_FAILED else {*share}
        tell(told.text[-5000:])
    return frozenset(wrong)


def is_of(test: str, name: str) -> bool:
    """Say whether a test is one of those that a name stands for."""
    return test == name or test.startswith((f"{name}::", f"{name}["))


def tried(tree: Tree, bug: Bug, wrong: AbstractSet[str]) -> Verdict:
    """Run the tests that must catch a bug, up to the first that does."""
    began_at = time.monotonic()
    if not wrong.isdisjoint(bug.tests):
        return Verdict(bug.name, "unproven", None, 0.0)
    with tree.having(bug):
        told = tree.test(bug.tests, "-x", limit_s=LIMIT_S)
    seconds = round(time.monotonic() - began_at, 1)
    if told.status == SOME_FAILED and told.failed:
        return Verdict(bug.name, "caught", told.failed[0], seconds)
    verdict = {PASSED: "MISSED", None: "too slow"}.get(told.status, "broken")
    if verdict != "MISSED":
        tell(told.text[-3000:])
    return Verdict(bug.name, verdict, None, seconds)


@contextmanager
def workshop(jobs: int) -> Iterator[Workshop]:
    """Make as many copies of the tree as there are jobs; they are gone after the block."""
    with ExitStack() as stack:
        yield Workshop([stack.enter_context(Tree.copied()) for _ in range(jobs)])


class Workshop:
    """Some copies of the tree, and a thread for each."""

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._trees = trees
        self._free: SimpleQueue[Tree] = SimpleQueue()
        for tree in trees:
            self._free.put(tree)

    def each(self, work: Callable[[Tree, Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yield what `work` returns, as it comes. Ctrl-C ends the tests that run, and the rest."""

        def one(item: Any) -> Any:
            tree = self._free.get()
            try:
                return work(tree, item)
            finally:
                self._free.put(tree)

        with ThreadPoolExecutor(len(self._trees)) as threads:
            running = [threads.submit(one, item) for item in items]
            try:
                for done in as_completed(running):
                    yield done.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                for tree in self._trees:
                    tree.stop()
                raise


def tell(line: str) -> None:
    """Show how it goes on."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
