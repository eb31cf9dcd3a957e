"""The import rules of the folders as data, and a reader of syntax trees that finds what breaks them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = {
    "benchmarks": "benchmarks",
    "cluster": "cluster",
    "deployments": "deployments",
    "engine": "engine",
    "polydraft": "polydraft",
    "polydraft_kernels": "kernels/polydraft_kernels",
    "protos": "protos",
    "training": "training",
}
"""Import name of each of our packages and its folder. `kernels` itself belongs to Hugging Face."""

MAY_IMPORT = {
    "benchmarks": {"cluster", "deployments", "engine", "polydraft", "polydraft_kernels", "protos", "training"},
    "cluster": {"protos"},
    "deployments": {"cluster", "engine", "protos", "training"},
    "engine": {"polydraft_kernels"},
    "polydraft": {"protos"},
    "polydraft_kernels": set[str](),
    "protos": set[str](),
    "training": {"engine", "polydraft_kernels"},
}
"""Which of our other packages a package may import."""

LAZY_PACKAGE = "polydraft"
"""Its functions may import what they like of ours: the command line loads a tier only when a command needs it."""

FOREIGN_ONLY_IN = {
    "opentelemetry": ("deployments",),
    "ray": ("deployments",),
    "torch": ("benchmarks", "deployments", "engine", "kernels/polydraft_kernels", "training"),
    "transformers": ("benchmarks", "deployments", "engine", "training"),
    "triton": ("kernels/polydraft_kernels/triton",),
}
"""Foreign packages that only these folders may import, in functions too."""


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module: its full name, where, and whether it is imported only when a function runs."""

    module: str
    line: int
    in_function: bool


def imports_of(source: str, package: str) -> Iterator[Import]:
    """Every import of a module of `package` (a dotted name), `importlib.import_module("...")` included."""
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(source), False)]
    while pending:
        node, in_function = pending.pop()
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, in_function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield Import(".".join([*parent, *([node.module] if node.module else [])]), node.lineno, in_function)
        elif isinstance(node, ast.Call) and _is_import_call(node.func):
            names = [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
            yield from (Import(str(name), node.lineno, in_function) for name in names)
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        pending.extend((child, in_function or is_function) for child in ast.iter_child_nodes(node))


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in {"import_module", "__import__"}


def violations(root: Path) -> list[str]:
    """One line for each import under `root` that breaks a rule; generated code is read as well."""
    return [
        f"{path.relative_to(root)}:{found.line}: {name} imports {found.module}, which {reason}"
        for name, folder in PACKAGES.items()
        for path in sorted((root / folder).rglob("*.py"))
        for found in imports_of(path.read_text(encoding="utf-8"), _package_of(path, root / folder, name))
        if (reason := _broken_rule(name, path.relative_to(root), found))
    ]


def _package_of(path: Path, folder: Path, name: str) -> str:
    return ".".join([name, *path.relative_to(folder).parts[:-1]])


def _broken_rule(package: str, path: Path, found: Import) -> str | None:
    top = found.module.split(".")[0]
    if top == "kernels":
        return "is the name of a foreign package; ours is polydraft_kernels"
    if top == "tests":
        return "only tests may import"
    if top in FOREIGN_ONLY_IN:
        if package == LAZY_PACKAGE and found.in_function and top != "ray":
            return None
        folders = FOREIGN_ONLY_IN[top]
        return None if any(path.is_relative_to(folder) for folder in folders) else f"only {', '.join(folders)} may"
    if top not in PACKAGES or top == package or top in MAY_IMPORT[package]:
        return None
    if package == LAZY_PACKAGE:
        return None if found.in_function else "it may import only inside a function"
    return "lies on the wrong side of it"
