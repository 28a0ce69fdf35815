"""Does a value from the configuration fit an annotation in the source? Unknown annotations fit everything."""

import ast
import re
from typing import Any

from cl_fisher.bounds import BOUNDS
from cl_fisher.config.signature import Source
from cl_fisher.config.suggest import did_you_mean
from cl_fisher.error import InputError

PLAIN = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
PLURAL = {"int": "whole numbers", "float": "numbers", "bool": "true or false", "str": "texts"}
GROUPS = {"Module": "model", "Strategy": "strategy", "DataSet": "dataset"}
"""Where components come from that others contain."""
NUMBER = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?", re.IGNORECASE)
"""What looks like a number and was quoted, or came out of ${oc.env:...}."""
SEQUENCES = {"list", "tuple", "Sequence", "Iterable", "Collection"}


def problem(name: str, value: Any, annotation: ast.expr | None, source: Source) -> str | None:
    """What is wrong with `name=value`, in one line; None if nothing is."""
    match annotation:
        case ast.Constant(value=None):
            return None if value is None else f"{name}={show(value)}: null is wanted"
        case ast.Constant(value=str(text)):
            return problem(name, value, ast.parse(text, mode="eval").body, source)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _first(name, value, [left, right], source)
        case ast.Subscript(value=ast.Name(id=kind), slice=inner):
            return _subscript(name, value, kind, inner, source)
        case ast.Name(id=kind):
            return _name(name, value, kind, source)
    return None


def allowed(annotation: ast.expr | None, source: Source) -> list[str]:
    """The values that an annotation lists, as they are typed: of Literal[...] and bool."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return allowed(left, source) + allowed(right, source)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            return list(dict.fromkeys(show(ast.literal_eval(e)) for e in _elements(inner)))
        case ast.Constant(value=None):
            return ["null"]
        case ast.Name(id="bool"):
            return ["true", "false"]
        case ast.Name(id=kind) if kind not in BOUNDS:
            found = source.find(kind)
            if found is not None and isinstance(found[1], ast.Assign):
                return allowed(found[1].value, found[0])
    return []


def show(value: Any) -> str:
    """A value as it is typed on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _elements(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]


def _first(name: str, value: Any, options: list[ast.expr], source: Source) -> str | None:
    """None if any option fits; else what the first one of the value's kind says, list or not, and null the last."""
    listed = isinstance(value, list)
    inner = sorted(options, key=lambda o: (isinstance(o, ast.Constant), _is_sequence(o) is not listed))
    problems = [problem(name, value, o, source) for o in inner]
    return None if None in problems else problems[0]


def _is_sequence(annotation: ast.expr) -> bool:
    return isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in SEQUENCES


def _subscript(name: str, value: Any, kind: str, inner: ast.expr, source: Source) -> str | None:
    if kind == "Literal":
        return _literal(name, value, [ast.literal_eval(e) for e in _elements(inner)])
    if kind == "Annotated":
        return problem(name, value, _elements(inner)[0], source)
    if kind in ("Optional", "Union"):
        none = [ast.Constant(value=None)] if kind == "Optional" else []
        return _first(name, value, [*_elements(inner), *none], source)
    if kind == "Callable":
        return _component(name, value, inner)
    if kind == "Mapping":
        if not isinstance(value, dict):
            return f"{name}={show(value)}: named parts are wanted, such as {name}.NAME"
        inside = [problem(f"{name}.{key}", part, _elements(inner)[1], source) for key, part in value.items()]
        return next((f"{p}; ~{name}.{key} leaves it out" for key, p in zip(value, inside, strict=True) if p), None)
    if kind not in SEQUENCES:
        return None
    kinds = [e for e in _elements(inner) if not (isinstance(e, ast.Constant) and e.value is Ellipsis)]
    fixed = kind == "tuple" and len(kinds) == len(_elements(inner))
    if fixed and not (isinstance(value, list) and len(kinds) == len(value)):
        return f"{name}={show(value)}: a list of {len(kinds)} values is wanted"
    if not isinstance(value, list):
        return f"{name}={show(value)}: a list is wanted, such as {name}=[1,2]"
    plain = None if fixed else PLURAL.get(ast.unparse(kinds[0]))
    if plain is not None and not all(_is(v, ast.unparse(kinds[0])) for v in value):
        return f"{name}={show(value)}: a list of {plain} is wanted"
    pairs = zip(value, kinds if len(kinds) == len(value) else kinds[:1] * len(value), strict=True)
    return next((p for v, k in pairs if (p := problem(name, v, k, source)) is not None), None)


def _component(name: str, value: Any, made: ast.expr) -> str | None:
    """What is wrong with a node that must have a `_target_`, of what is `made`."""
    if isinstance(value, dict) and "_target_" in value:
        return None
    what = f"{name} has no _target_" if isinstance(value, dict) else f"{name}={show(value)}"
    group = next((group for kind, group in GROUPS.items() if kind in ast.unparse(made)), "GROUP")
    return f"{what}: a component is wanted; {group}@{name}=NAME chooses one"


def _literal(name: str, value: Any, choices: list[Any]) -> str | None:
    if any(type(value) is type(c) and value == c for c in choices):
        return None
    texts = list(dict.fromkeys(show(c) for c in choices))
    return f"{name}={show(value)} is not one of {', '.join(texts)}{did_you_mean(show(value), texts)}"


def _name(name: str, value: Any, kind: str, source: Source) -> str | None:
    if kind in BOUNDS:
        wanted = f"{'a whole number' if BOUNDS[kind].whole else 'a number'} is wanted, {BOUNDS[kind]}"
        if value is None:
            return f"{name}=null: {wanted}"
        if isinstance(value, str) and NUMBER.fullmatch(value):
            return f"{name}='{value}' is text: {wanted}"
        try:
            BOUNDS[kind].check(name, value)
        except InputError as error:
            return str(error)
        return None
    if kind in PLAIN:
        return None if _is(value, kind) else f"{name}={show(value)}: {PLAIN[kind]} is wanted"
    found = source.find(kind)
    if found is not None and isinstance(found[1], ast.Assign):
        return problem(name, value, found[1].value, found[0])
    return _component(name, value, ast.Name(kind)) if found is not None and isinstance(found[1], ast.ClassDef) else None


def _is(value: Any, kind: str) -> bool:
    if kind in ("int", "float"):
        return isinstance(value, int if kind == "int" else (int, float)) and not isinstance(value, bool)
    return isinstance(value, bool if kind == "bool" else str)
