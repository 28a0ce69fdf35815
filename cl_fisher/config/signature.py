"""The parameters of a `_target_`, read from its source file: importing it would load torch."""

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

import cl_fisher

PACKAGE = "cl_fisher"
STAND_INS = {"lightning.": "cl_fisher.config.outside.trainer", "torch.optim.": "cl_fisher.config.outside.optimizer"}
"""Where the options of targets outside the package are declared, by how a target begins."""
NO_PARAMETERS = {"ABC", "Protocol", "Generic", "object"}


@dataclass(frozen=True)
class Parameter:
    """A parameter's annotation with the file in which its names have their meaning."""

    annotation: ast.expr | None
    source: "Source"


@dataclass(frozen=True)
class Signature:
    """The parameters by name; `open` if any other keyword is accepted too."""

    parameters: dict[str, Parameter]
    open: bool = False


class Source:
    """A parsed module of this package and the names at its top level."""

    def __init__(self, path: Path) -> None:
        self.names: dict[str, ast.stmt | str] = {}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                self.names[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.names[node.targets[0].id] = node
            elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
                self.names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}

    def find(self, name: str) -> "tuple[Source, ast.stmt] | None":
        """The statement that defines a name, here or in a module of this package that it is imported from."""
        found = self.names.get(name)
        if isinstance(found, str):
            return locate(found)
        return None if found is None else (self, found)


@functools.cache
def source_of(module: str) -> Source | None:
    """The parsed module; None if it is not a file of this package."""
    top, *rest = module.split(".")
    if top != PACKAGE:
        return None
    path = Path(cl_fisher.__file__).parent.joinpath(*rest)
    files = [f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()]
    return Source(files[0]) if files else None


def locate(target: str) -> tuple[Source, ast.stmt] | None:
    """Where a dotted name of this package is defined; None if that cannot be read off the source."""
    module, _, name = target.rpartition(".")
    source = source_of(module)
    return None if source is None else source.find(name)


def constant(target: str, name: str) -> object:
    """A constant in the module of a target of this package; None where it cannot be read off the source."""
    source = source_of(target.rpartition(".")[0])
    node = None if source is None else source.names.get(name)
    return ast.literal_eval(node.value) if isinstance(node, ast.Assign) else None


def signature(target: str) -> Signature | None:
    """The signature of a function, a class or a dataclass of this package, or its stand-in; None if not known."""
    found = locate(next((own for start, own in STAND_INS.items() if target.startswith(start)), target))
    return None if found is None else _of(*found)


def _of(source: Source, node: ast.stmt) -> Signature | None:
    if isinstance(node, ast.FunctionDef):
        return _of_function(source, node)
    if not isinstance(node, ast.ClassDef):
        return None
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            whole = _of_function(source, part)
            return Signature(dict(list(whole.parameters.items())[1:]), whole.open)
    inherited = _of_bases(source, node)
    if inherited is None or not any("dataclass" in ast.unparse(d) for d in node.decorator_list):
        return inherited
    return Signature(inherited.parameters | _fields(source, node))


def _of_function(source: Source, node: ast.FunctionDef) -> Signature:
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return Signature({a.arg: Parameter(a.annotation, source) for a in every}, node.args.kwarg is not None)


def _of_bases(source: Source, node: ast.ClassDef) -> Signature | None:
    parameters: dict[str, Parameter] = {}
    for base in node.bases:
        name = base.value if isinstance(base, ast.Subscript) else base
        if not isinstance(name, ast.Name):
            return None
        if name.id in NO_PARAMETERS:
            continue
        found = source.find(name.id)
        above = None if found is None else _of(*found)
        if above is None or above.open:
            return None
        parameters |= above.parameters
    return Signature(parameters)


def _fields(source: Source, node: ast.ClassDef) -> dict[str, Parameter]:
    return {
        part.target.id: Parameter(part.annotation, source)
        for part in node.body
        if isinstance(part, ast.AnnAssign)
        and isinstance(part.target, ast.Name)
        and "ClassVar" not in ast.unparse(part.annotation)
        and not (part.value is not None and "init=False" in ast.unparse(part.value))
    }
