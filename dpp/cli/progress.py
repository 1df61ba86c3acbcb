"""A run watched to its end: a live line on a terminal, one line for each change elsewhere.

All of it on stderr, so that stdout holds the answer alone.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from attrs import define, field

from dpp.cli.output import clean
from dpp.cli.tables import progress_text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from dpp.cli.output import Output
    from dpp.client import Client, Run


class Watcher(Protocol):
    """What is shown each state of a run."""

    def __call__(self, run: Run) -> None: ...


def follow(out: Output, client: Client, run: Run) -> Run:
    """Show the run until it has ended; return it as it ended."""
    with watcher(out) as show:
        show(run)
        if run.ended:
            return run
        with client.watch(run.run_id) as states:
            for state in states:
                show(state)
    return state


def watcher(out: Output) -> AbstractContextManager[Watcher]:
    """Return what suits the stderr of this process."""
    return Bar() if sys.stderr.isatty() else Lines(out)


@define(eq=False)
class Lines:
    """A line whenever status, fraction or note change."""

    out: Output
    _last: str = field(default="", init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def __call__(self, run: Run) -> None:
        """Show the run as it is now."""
        line = " ".join(part for part in (run.run_id, run.status, progress_text(run)) if part)
        if line != self._last:
            self.out.note(line)
        self._last = line


@define(eq=False)
class Bar:
    """A bar of rich; it moves by itself while nothing is known."""

    _progress: Progress = field(init=False)
    _task: TaskID | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        status = TextColumn("{task.fields[status]:<10}", markup=False)
        note = TextColumn("{task.fields[note]}", markup=False)
        bar = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        console = Console(stderr=True, markup=False, emoji=False, highlight=False)
        self._progress = Progress(SpinnerColumn(), status, *bar, note, console=console)
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def __call__(self, run: Run) -> None:
        """Show the run as it is now."""
        if self._task is None:
            self._progress.console.print(f"run {run.run_id}")  # to find it again after Ctrl-C
            self._task = self._progress.add_task("", total=None, status="", note="")
        known = run.ended or run.progress is not None
        fraction = 1.0 if run.ended else run.progress.fraction if run.progress else 0.0
        note = clean(run.progress.note or "") if run.progress else ""
        self._progress.update(
            self._task,
            total=1.0 if known else None,
            completed=fraction,
            status=str(run.status),
            note=note,
        )
