"""Evaluate a formula of x that a user typed. Nothing is run but the arithmetic and the functions listed here."""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

OPERATORS: dict[type[ast.AST], Callable[..., Tensor]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
NAMES = (
    *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "exp", "log", "log2", "log10", "sqrt"),
    *("abs", "sign", "floor", "ceil", "round", "sigmoid", "relu", "sinc", "erf", "minimum", "maximum"),
)
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in NAMES},
    "where": lambda condition, yes, no: torch.where(condition != 0, yes, no),
}
CONSTANTS = {"pi": math.pi, "e": math.e}
ALLOWED = f"a formula has x, numbers, pi, e, + - * / // % ** < <= > >=, {', '.join(FUNCTIONS)}"


def evaluate(expression: str, x: Tensor) -> Tensor:
    """Return the formula's values at x [N]; a comparison counts as 1 where it holds, else 0.

    Raises ValueError, in words that name the part of the formula which is not allowed.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # Python's warnings about text such as 2(x) or 1if
            tree = ast.parse(expression.strip(), mode="eval")
        return _value(tree.body, x).expand_as(x)
    except SyntaxError as error:
        raise ValueError(f"no formula of x ({error.msg})") from error
    except (RecursionError, MemoryError, OverflowError) as error:
        raise ValueError(f"nested too deeply, or with too large a number ({error})") from error


def _value(node: ast.AST, x: Tensor) -> Tensor:
    """Return the values of a node. Numbers become tensors, so that 9**9**9 overflows to inf at once."""
    function = None
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return torch.tensor(float(number), dtype=x.dtype)
        case ast.Name(id="x"):
            return x
        case ast.Name() | ast.Attribute() if _name(node) in CONSTANTS:
            return torch.tensor(CONSTANTS[_name(node)], dtype=x.dtype)
        case ast.UnaryOp(op=op, operand=operand):
            function, operands = OPERATORS.get(type(op)), [operand]
        case ast.BinOp(left=left, op=op, right=right) | ast.Compare(left=left, ops=[op], comparators=[right]):
            function, operands = OPERATORS.get(type(op)), [left, right]
        case ast.Call(func=called, args=operands, keywords=[]):
            function = FUNCTIONS.get(_name(called))
    if function is None:
        raise ValueError(f"{ast.unparse(node)} is not allowed; {ALLOWED}")
    values = [_value(operand, x) for operand in operands]
    try:
        return function(*values).to(x.dtype)
    except TypeError as error:
        raise ValueError(f"{ast.unparse(node)} has {len(values)} arguments, which is not their number") from error


def _name(node: ast.AST) -> str:
    """Return sin for sin, np.sin and torch.sin; "" if the node is not a name."""
    match node:
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="np" | "numpy" | "torch" | "math"), attr=name):
            return name
    return ""
