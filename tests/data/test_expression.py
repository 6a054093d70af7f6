"""A formula is evaluated as numpy evaluates it, and nothing but a formula is."""

from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seedbed.data.expression import CONSTANTS, FUNCTIONS, evaluate

X = torch.linspace(-1, 1, 9, dtype=torch.float64)
NUMPY = {
    **{name: getattr(np, name) for name in FUNCTIONS if hasattr(np, name)},
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "formula",
    [
        *(f"{name}(x)" for name in FUNCTIONS if name not in ("minimum", "maximum", "where", "erf")),
        "-x + 2.5e-1*x - x/3",
        "+x**2 % 0.3 // 0.1",
        "maximum(x, 0) - minimum(x, 2*x)",
        "where(x > 0, x, -1)",
        "1*(x < 0) + 1*(x <= 0.5) + 1*(x >= 1)",
        "2*pi*x + e",
    ],
)
def test_formula_has_the_values_of_numpy(formula):
    expected = eval(formula, {"x": X.numpy(), **NUMPY, **CONSTANTS})
    np.testing.assert_allclose(evaluate(formula, X).numpy(), expected, rtol=1e-12, atol=1e-15)


def test_a_librarys_prefix_may_stand_before_a_name():
    expected = evaluate("sin(x)*pi", X)
    for formula in ("np.sin(x)*np.pi", "torch.sin(x)*math.pi", " numpy.sin(x) * pi "):
        assert torch.equal(evaluate(formula, X), expected)


def test_a_number_is_a_constant_function_and_a_huge_power_is_inf():
    assert evaluate("3", X).tolist() == [3] * 9
    assert evaluate("9**9**9**9**9", X).isinf().all()


REFUSED = [
    *("", "sin(x", "x; x", "x = 1", "x := 1", "import os", "x\\nx", "y", "x^2", "x[0]", "[x]", "x.T", "x @ x", "~x"),
    *("__import__('os').system('ls')", "().__class__.__bases__", "(lambda: x)()", "'a' * 9", "f'{x}'", "True", "1j"),
    *("[x for x in x]", "x if x else x", "x and x", "not x", "0 < x < 1", "x == 0", "2(x)", "None", "...", "print(x)"),
    *("sin", "sin()", "sin(x, x)", "sin(*x)", "sin(x, out=x)", "sin(x)(x)", "where(x)", "torch.load(x)", "torch.pi.x"),
    *("np", "os.sin(x)", "x.sin(x)", "torch.linalg.sin(x)", "exec('x')", "open('x')", "getattr(x, 'T')"),
    *("-" * 5000 + "x", "(" * 500 + "x" + ")" * 500, "x" + "+x" * 5000, "9" * 400, "9" * 10_000, "x\0"),
]


@pytest.mark.parametrize("formula", REFUSED, ids=lambda formula: formula[:20])
def test_everything_else_is_refused(formula):
    with pytest.raises(ValueError):
        evaluate(formula, X)


@pytest.mark.filterwarnings("error")
@given(st.text(alphabet="x+-*/%<>=()., 0123456789.einpsqrtabov_[]'\"", max_size=30))
def test_any_text_has_values_or_is_refused(formula):
    with suppress(ValueError):
        assert evaluate(formula, X).shape == X.shape
