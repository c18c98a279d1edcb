"""Mutants: what they change in a module, how they are found in it again, and the list of them that is kept.

A mutant is the text of one statement, or of the condition of a compound one, and the text that takes its place. It is
found by the name of its function and that text, so that edits elsewhere in the file make no difference.
"""

from __future__ import annotations

import ast
import itertools
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("mutants.toml")

_COMPARISONS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "+"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """`function` is a qualified name, empty for the module's own level; `index` counts equal texts within it, from 0.

    `verdict` is `killed`, `equivalent`, `survived` or empty (not run yet); `reason` is the test that kills it, or why
    nothing can.
    """

    module: str
    """Below `voice_streaming`, without the suffix: `media/pcm`."""
    function: str
    original: str
    mutated: str
    index: int = 0
    sampled: bool = True
    """By chance; False for one that was chosen, as it had once survived."""
    verdict: str = ""
    reason: str = ""

    def applied_to(self, source: str) -> str:
        """The module's source with the mutation. Raises LookupError where the text is no longer there."""
        start, end = _bounds(source, self.function)
        position = start
        for _ in range(self.index + 1):
            found = source.find(self.original, position, end)
            if found < 0:
                raise LookupError(f"{self.module}: {self.function}: no {self.original!r} ({self.index})")
            position = found + 1
        return source[:found] + self.mutated + source[found + len(self.original) :]


def read_list(path: Path = LIST) -> list[Mutant]:
    return [Mutant(**entry) for entry in tomllib.loads(path.read_text())["mutant"]]


def write_list(mutants: list[Mutant], path: Path = LIST) -> None:
    """In the order given; a text of several lines stays readable as one with escapes."""
    entries = []
    for mutant in mutants:
        fields = {name: value for name, value in vars(mutant).items() if value != getattr(Mutant, name, None)}
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
        entries.append("\n".join(["[[mutant]]", *lines]))
    path.write_text("\n\n".join(entries) + "\n")


def all_mutants(module: str, source: str) -> list[Mutant]:
    """Every mutant that there is, in the order of the source: one for each thing that can be changed."""
    positions = _Positions(source)
    found = []
    for function, node in _units(ast.parse(source), ""):
        start, end = positions.span(node)
        original = source[start:end]
        index = source.count(original, _bounds(source, function)[0], start)
        for first, last, text in _changes(node, positions, source):
            mutated = source[start:first] + text + source[last:end]
            if mutated != original:
                found.append(Mutant(module, function, original, mutated, index))
    return list(dict.fromkeys(found))


class _Positions:
    """Characters of the source, where the parser counts lines and bytes."""

    def __init__(self, source: str) -> None:
        self._lines = source.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)

    def _at(self, line: int, column_bytes: int) -> int:
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column_bytes].decode())


def _bounds(source: str, function: str) -> tuple[int, int]:
    """Where the function's text begins and ends."""
    if not function:
        return 0, len(source)
    body: list[ast.stmt] = ast.parse(source).body
    for name in function.split("."):
        inner = [node for node in _definitions(body) if node.name == name]
        if not inner:
            raise LookupError(f"no {function}")
        # The last: an overload or a property's getter comes first.
        found = inner[-1]
        body = found.body
    return _Positions(source).span(found)


def _definitions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement
        else:
            for inner in ast.iter_child_nodes(statement):
                if isinstance(inner, ast.stmt):
                    yield from _definitions([inner])


def _units(node: ast.AST, function: str) -> Iterator[tuple[str, ast.stmt | ast.expr]]:
    """Statements without others in them, and the conditions of those with; each with its function's name."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                name = f"{function}.{child.name}" if function else child.name
                for statement in child.body:
                    yield from _units_of(statement, name)
            case ast.stmt():
                yield from _units_of(child, function)


def _units_of(statement: ast.stmt, function: str) -> Iterator[tuple[str, ast.stmt | ast.expr]]:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield from _units(ast.Module([statement], []), function)
        case ast.If() | ast.While():
            yield function, statement.test
            yield from _units(ast.Module([*statement.body, *statement.orelse], []), function)
        case ast.For():
            yield function, statement.iter
            yield from _units(ast.Module([*statement.body, *statement.orelse], []), function)
        case ast.With() | ast.AsyncWith():
            yield from _units(ast.Module(statement.body, []), function)
        case ast.Try():
            handled = [inner for handler in statement.handlers for inner in handler.body]
            body = [*statement.body, *handled, *statement.orelse, *statement.finalbody]
            yield from _units(ast.Module(body, []), function)
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.Return() | ast.Raise():
            yield function, statement
        case ast.Expr() if isinstance(statement.value, ast.Call | ast.Await) and not _is_logging(statement.value):
            yield function, statement


def _is_logging(call: ast.expr) -> bool:
    return ast.unparse(call).startswith("logger.")


Change = tuple[int, int, str]
"""First and last character that are replaced, and by what."""


def _changes(unit: ast.stmt | ast.expr, positions: _Positions, source: str) -> Iterator[Change]:
    whole = positions.span(unit)
    match unit:
        case ast.Expr() | ast.Raise():
            yield (*whole, "pass")
        case ast.Assign() | ast.AugAssign() if not isinstance(_target(unit), ast.Name):
            yield (*whole, "pass")
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield (*positions.span(value), "None")
        case ast.expr():
            yield (*whole, f"not ({source[whole[0] : whole[1]]})")
    if isinstance(unit, ast.AugAssign) and type(unit.op) in _ARITHMETIC:
        before, after = _ARITHMETIC[type(unit.op)]
        yield _between(positions.span(unit.target)[1], positions.span(unit.value)[0], source, before, after)
    for node in _expressions(unit):
        yield from _expression_changes(node, positions, source)


def _target(statement: ast.Assign | ast.AugAssign) -> ast.expr:
    return statement.targets[0] if isinstance(statement, ast.Assign) else statement.target


def _expressions(unit: ast.AST) -> Iterator[ast.expr]:
    """All below the unit, without annotations and format strings."""
    for child in ast.iter_child_nodes(unit):
        if isinstance(unit, ast.AnnAssign) and child is unit.annotation:
            continue
        if isinstance(child, ast.JoinedStr):
            continue
        if isinstance(child, ast.expr):
            yield child
        yield from _expressions(child)
    if isinstance(unit, ast.expr):
        yield unit


def _expression_changes(node: ast.expr, positions: _Positions, source: str) -> Iterator[Change]:
    span = positions.span(node)
    match node:
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            before, after = _COMPARISONS[type(operator)]
            yield _between(positions.span(left)[1], positions.span(right)[0], source, before, after)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
            before, after = _ARITHMETIC[type(operator)]
            yield _between(positions.span(left)[1], positions.span(right)[0], source, before, after)
        case ast.BoolOp(op=operator, values=values):
            before, after = ("and", "or") if isinstance(operator, ast.And) else ("or", "and")
            for left, right in itertools.pairwise(values):
                yield _between(positions.span(left)[1], positions.span(right)[0], source, before, after)
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            yield (*span, source[slice(*positions.span(operand))])
        case ast.IfExp(test=test):
            inner = positions.span(test)
            yield (*inner, f"not ({source[slice(*inner)]})")
        case ast.Constant(value=bool() as value):
            yield (*span, str(not value))
        case ast.Constant(value=int() as value):
            yield (*span, str(value + 1))
        case ast.Constant(value=float() as value):
            yield (*span, repr(value * 2 + 1))
        case ast.Name(id=name) if name in _FUNCTIONS:
            yield (*span, _FUNCTIONS[name])


def _between(start: int, end: int, source: str, before: str, after: str) -> Change:
    """Replaces the operator that stands somewhere between two operands."""
    first = source.index(before, start, end)
    return first, first + len(before), after
