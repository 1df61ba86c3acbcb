"""`dpp install-units`: the units of systemd, written under a prefix."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path, PurePosixPath

import click

from dpp import program as itself
from dpp.cli.command import Command, with_session
from dpp.cli.exits import Exit, Stop, Trouble
from dpp.cli.session import Session

FOLDER = click.Path(file_okay=False, path_type=Path)
NEXT = (
    "systemd-sysusers && systemd-tmpfiles --create dpp.conf && systemctl daemon-reload",
    "systemctl enable --now dpp.socket dpp.service",
)


@click.command("install-units", cls=Command)
@click.option(
    "--prefix",
    type=FOLDER,
    default=Path("/usr/local"),
    show_default=True,
    help="Units go into lib/systemd/system there; /usr is the other that systemd reads.",
)
@click.option(
    "--dpp",
    "program",
    help="What the units start.  [default: bin/dpp in the prefix, or this binary]",
)
@click.option("--root", type=FOLDER, help="Write into this tree instead of /, as for a package.")
@with_session
def install_units(session: Session, prefix: Path, program: str | None, root: Path | None) -> None:
    """Write dpp.service, its sockets, its user and its drop-ins; what is there is replaced."""
    from dpp.files import write_file
    from dpp.resources import units_dir
    from dpp.systemd import units

    program = program or str(_usual(prefix, root))
    wrong = units.objection(program)
    if wrong is None and not prefix.is_absolute():
        wrong = f"the prefix {prefix} must be an absolute path"
    if wrong is not None:
        did, todo = "DPP wrote nothing.", "Install DPP elsewhere, as in /opt, and name it by --dpp."
        raise Stop(Exit.USAGE, Trouble("not-a-program", f"{program}: {wrong}.", did, todo))
    source, written = units_dir(), list[str]()
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        name = PurePosixPath(file.relative_to(source))
        target = prefix / units.place(name)
        place = target if root is None else root / target.relative_to("/")
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_file(place, units.starting(file.read_text("utf-8"), program), mode=0o644)
        written.append(str(place))
        session.out.say(str(place))
    session.out.result({"program": program, "written": written})
    if root is None and not os.access(program, os.X_OK):
        session.out.note(f"warning: there is no program at {program} yet")
    for line in NEXT if root is None else ():
        session.out.note(f"next: {line}")


def _usual(prefix: Path, root: Path | None) -> Path:
    """Return what the units start where nobody says: bin/dpp of the prefix.

    The binary knows its place. A link to it in the prefix is better, since an upgrade moves that.
    """
    usual, binary = prefix / "bin" / "dpp", itself.binary()
    if binary is None:
        return usual
    tree = root or Path("/")
    with suppress(OSError):
        if (tree / usual.relative_to(prefix.anchor)).samefile(binary):
            return usual
    inside = root is not None and binary.is_relative_to(root.resolve())
    return Path("/", binary.relative_to(tree.resolve())) if inside else binary
