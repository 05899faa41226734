"""Rules of the house that no linter knows (CONTRIBUTING.md), each named by its test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = ("api", "cli", "core", "deploy", "evaluation", "migrations", "workers")
ROOMS = (*CODE, "bench", "chaos", "fuzz", "training", ".ci")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FILE_LINES, FUNCTION_LINES = 400, 60
VAGUE = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@lru_cache
def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@lru_cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def where(path: Path, node: ast.AST | None = None) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 40
    assert len(TESTS) > 40


def test_no_file_is_longer_than_a_reader_bears() -> None:
    long = [f"{where(path)}: {len(lines(path))}" for path in SOURCES + TESTS if len(lines(path)) > FILE_LINES]
    assert long == []


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def length(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_function_is_longer_than_a_screen() -> None:
    paths = [path for path in SOURCES + TESTS if "versions" not in path.parts]  # a migration is a list
    found = [(path, node) for path in paths for node in functions(path) if length(node) > FUNCTION_LINES]
    assert [f"{where(path, node)} {node.name}: {length(node)}" for path, node in found] == []


def public(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    """The public functions and classes of a module or class, and of the classes in it."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def test_every_module_and_public_name_says_what_it_promises() -> None:
    silent = [where(path) for path in SOURCES if not ast.get_docstring(tree(path))]
    for path in SOURCES:
        # Alembic gives its functions their names; what they do is said by the module.
        names = [] if "migrations" in path.parts else list(public(tree(path).body))
        silent += [f"{where(path, node)} {node.name}" for node in names if not ast.get_docstring(node)]
    assert silent == []


def test_no_module_is_named_for_nothing() -> None:
    assert [where(path) for path in SOURCES + TESTS if VAGUE & {path.stem, path.parent.name}] == []


def explained(path: Path, node: ast.ExceptHandler) -> bool:
    """Whether a comment stands at the handler, or it only cleans up and raises again."""
    again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
    around = " ".join(lines(path)[node.lineno - 2 : node.lineno + 1])
    return again or bool(re.search(r"# (?!noqa)\w|# noqa: \w+ - ", around))


def test_catching_everything_is_explained() -> None:
    silent = []
    for path in SOURCES:
        handlers = [node for node in ast.walk(tree(path)) if isinstance(node, ast.ExceptHandler)]
        broad = [
            n for n in handlers if n.type is None or ast.unparse(n.type) in {"Exception", "BaseException"}
        ]
        silent += [where(path, node) for node in broad if not explained(path, node)]
    assert silent == []


def test_nothing_is_left_for_later() -> None:
    later = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b")
    left = [
        f"{where(path)}:{n}"
        for path in SOURCES
        for n, line in enumerate(lines(path), 1)
        if later.search(line) or "NotImplementedError" in line
    ]
    assert left == []


def test_hostile_files_are_opened_in_one_place() -> None:
    """Every `av.open` must carry the container and protocol allow-lists, so there is only one."""
    opened = {
        where(path).rpartition(":")[0] for path in SOURCES for line in lines(path) if "av.open(" in line
    }
    product = {path for path in opened if path.startswith(CODE)}
    assert len(product) == 1, product
    (only,) = product
    assert only.startswith("workers/media/")


def test_tests_are_at_least_as_long_as_the_code() -> None:
    code = sum(len(lines(path)) for path in SOURCES if path.relative_to(ROOT).parts[0] in CODE)
    tests = sum(len(lines(path)) for path in TESTS)
    assert tests >= code


@pytest.mark.parametrize("path", TESTS, ids=where)
def test_a_test_module_tests(path: Path) -> None:
    if not path.name.startswith("test_"):
        return
    asserts = sum(isinstance(node, ast.Assert) for node in ast.walk(tree(path)))
    raises = sum("pytest.raises" in line for line in lines(path))
    assert asserts + raises > 0
