"""House rules that guard correctness and that no linter knows. An offender is named by place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STORE = "dpp/store/"
FACE = "dpp/client/__init__.py"  # what others import: it names all of it in one place
NURSERIES = (
    "dpp/actors/",
    "dpp/http/connection.py",
    "dpp/http/readiness.py",
    "dpp/database.py",
    "dpp/node/",
    "dpp/packs/",
    "dpp/store/embedded.py",
)
VAGUE = {"base", "common", "helpers", "misc", "util", "utils"}
CLOCKS = {
    "date.today",
    "datetime.now",
    "datetime.today",
    "datetime.utcnow",
    "time.monotonic",
    "time.monotonic_ns",
    "time.sleep",
    "time.time",
    "time.time_ns",
}
# Spelled so that this file does not hold what it looks for.
FOREIGN = re.compile(
    r"""
      (?<![a-z0-9.]) [/] (root|work) [/]       # where it was written is nobody's business
    | (?<![a-z0-9.]) [/] tmp [/] [a-z]
    | [.] library\b | \b work place \b
    | py [p] i[.]org | python [h] osted | npm [j] s[.]org | deb[.] [d] ebian  # any will do
    | clau [d] e | anthro [p] ic | co-auth [o] red | chat [g] pt | \b sub-? [a] gent
    | \b issue [ ] [1-9] \b                    # a number that only its authors can look up
    """,
    re.VERBOSE | re.IGNORECASE,
)


def test_nurseries_open_only_where_tasks_are_owned() -> None:
    offenders = [
        place
        for path, tree in modules("dpp")
        for place in places(path, tree, "open_nursery")
        if not path.startswith(NURSERIES)
    ]

    assert offenders == []


def test_asyncio_stays_in_the_store() -> None:
    offenders = [
        f"{path}:{node.lineno}"
        for path, tree in modules("dpp")
        if not path.startswith(STORE)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and "asyncio" in roots(node)
    ]

    assert offenders == []


def test_the_store_reads_no_clock_either() -> None:
    offenders = [
        f"{path}: {ast.unparse(node)}"
        for path, tree in modules(STORE)
        for node in ast.walk(tree)
        if reads_clock(node)
    ]

    assert offenders == []


def test_each_query_is_used_and_each_used_one_exists() -> None:
    written = {path.stem for path in (ROOT / "sql" / "queries").glob("*.sql")}

    used = {name for _, tree in modules(STORE) for name in queries_named(tree)}

    assert {"unused": written - used, "unknown": used - written} == {
        "unused": set(),
        "unknown": set(),
    }


def test_packages_hold_a_docstring_and_no_code() -> None:
    offenders = [
        path
        for folder in ("dpp", "tests")
        for path, tree in modules(folder)
        if path.endswith("/__init__.py") and path != FACE and not says_nothing_else(tree)
    ]

    assert offenders == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    offenders = [
        path
        for folder in ("dpp", "tests")
        for path, _ in modules(folder)
        if VAGUE & set(Path(path).with_suffix("").parts)
    ]

    assert offenders == []


def test_the_tree_speaks_of_itself_alone() -> None:
    offenders = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in texts(ROOT)
        for number, line in enumerate(path.read_text(errors="ignore").splitlines(), 1)
        if FOREIGN.search(line)
    ]

    assert offenders == []


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), path.name)


def modules(folder: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield each module under `folder`: its path from the top, and what it says."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), parsed(path)


def texts(folder: Path) -> Iterator[Path]:
    """Yield what belongs to the project: nothing hidden but .ci and files, no builds, no caches."""
    for path in sorted(folder.iterdir()):
        if path.is_file():
            yield path
        elif path.name == ".ci" or not path.name.startswith((".", "__", "build", "dist")):
            yield from texts(path)


def says_nothing_else(tree: ast.Module) -> bool:
    """Say whether a module is its docstring."""
    return len(tree.body) == 1 and ast.get_docstring(tree) is not None


def places(path: str, tree: ast.Module, name: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if (isinstance(node, ast.Attribute) and node.attr == name) or (
            isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}
        ):
            yield f"{path}:{node.lineno}"


def roots(node: ast.Import | ast.ImportFrom) -> set[str]:
    """Return the top-level packages that an import names."""
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").split(".")[0]}
    return {alias.name.split(".")[0] for alias in node.names}


def reads_clock(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return bool({f"{node.module}.{alias.name}" for alias in node.names} & CLOCKS)
    if not isinstance(node, ast.Attribute):
        return False
    return ".".join(ast.unparse(node).split(".")[-2:]) in CLOCKS


def queries_named(tree: ast.Module) -> Iterator[str]:
    """Yield X of each `queries.X`, the loader's own methods apart."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "queries"
            and node.attr != "names"
        ):
            yield node.attr


def test_the_judges_share_nothing_with_what_they_judge() -> None:
    """No line of the product, none of its SQL, none of the tests' own doubles."""
    sources = sorted((ROOT / "tests" / "oracle").glob("*.py"))
    assert len(sources) > 2
    for source in sources:
        text = source.read_text()
        nodes = list(ast.walk(ast.parse(text)))
        named = [
            alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
        ]
        named += [node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)]
        assert [name for name in named if name.startswith(("dpp", "tests.", "."))] == [], source
        assert "sql/" not in text, source
