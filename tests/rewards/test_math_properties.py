"""Laws that the comparison of answers obeys, and what it does with anything at all."""

from __future__ import annotations

import random
from fractions import Fraction

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlcs.rewards.case_files import builtin_cases
from rlcs.rewards.math import MathMatcher, Verdict, match_without_sympy
from rlcs.rewards.mathtext.grammar import parse_answer
from rlcs.rewards.mathtext.tree import MathTextError

_integers = st.integers(-(10**9), 10**9)
_positive = st.integers(1, 10**6)
_settings = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def is_right(answer: str, reference: str) -> bool:
    verdict = match_without_sympy(answer, reference)
    assert isinstance(verdict, Verdict), f"{answer!r} against {reference!r} needs sympy"
    return verdict.correct


@_settings
@given(_integers, _positive)
def test_a_fraction_is_itself_in_every_spelling(top: int, bottom: int) -> None:
    reference = f"{top}/{bottom}"
    lowest = Fraction(top, bottom)
    for spelling in (
        rf"\frac{{{top}}}{{{bottom}}}",
        rf"\dfrac{{{-top}}}{{{-bottom}}}",
        f"{lowest}",
        f"({top})/({bottom})",
    ):
        assert is_right(spelling, reference)
    assert not is_right(rf"\frac{{{top + 1}}}{{{bottom}}}", reference)


@_settings
@given(_integers, st.integers(0, 6))
def test_a_terminating_decimal_is_its_fraction(digits: int, places: int) -> None:
    value = Fraction(digits, 10**places)
    decimal = f"{'-' if digits < 0 else ''}{abs(digits) // 10**places}.{abs(digits) % 10**places:0{max(places, 1)}d}"
    assert is_right(decimal if places else f"{digits}.0", str(value))
    assert is_right(str(value), decimal if places else f"{digits}.0")


@_settings
@given(st.integers(3, 10**6).filter(lambda n: n % 3), st.integers(4, 12))
def test_a_rounded_decimal_is_no_fraction(top: int, places: int) -> None:
    shift = 10**places
    rounded = f"{top * shift // 3 // shift}.{top * shift // 3 % shift:0{places}d}"
    assert not is_right(rounded, f"{top}/3")
    assert is_right(f"{top}/3", rounded) or int(rounded[-1]) == 6  # cut off, not rounded


@_settings
@given(st.integers(-(10**6), 10**6), st.integers(-30, 30))
def test_scientific_notation_is_its_value(mantissa: int, exponent: int) -> None:
    value = Fraction(mantissa) * Fraction(10) ** exponent
    for spelling in (f"{mantissa}e{exponent}", rf"{mantissa} \times 10^{{{exponent}}}", f"{mantissa}×10^{exponent}"):
        assert is_right(spelling, str(value))


@_settings
@given(st.integers(1, 10**12))
def test_thousands_separators_make_no_difference(number: int) -> None:
    assert is_right(f"{number:,}", str(number))
    assert is_right(f"{number:,}".replace(",", "{,}"), str(number))


@_settings
@given(_integers)
def test_a_percentage_is_a_hundredth_and_not_the_number(number: int) -> None:
    assert is_right(f"{number}%", str(Fraction(number, 100)))
    assert is_right(rf"{number}\%", f"{number}％")
    assert is_right(f"{number}", f"{number}%") == (number == 0)


@_settings
@given(st.lists(st.integers(-99, 99), min_size=2, max_size=7, unique=True), st.randoms(use_true_random=False))
def test_sets_and_lists_have_no_order_and_tuples_have(items: list[int], rng: random.Random) -> None:
    shuffled = items[:]
    rng.shuffle(shuffled)
    text, other = ", ".join(map(str, items)), ", ".join(map(str, shuffled))
    assert is_right(text, other)
    assert is_right(rf"\{{{text}\}}", rf"\{{{other}\}}")
    assert is_right(text.replace(", ", " or "), rf"\{{{other}\}}")
    assert is_right(f"({text})", f"({other})") == (items == shuffled)
    assert not is_right(", ".join(map(str, items[1:])), other)


@_settings
@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-50, 50))
def test_expanding_changes_nothing(a: int, b: int, c: int) -> None:
    assert is_right(f"(x+{a})(y-({b}))", f"xy+({-b})x+({a})y+({-a * b})")
    assert is_right(f"(x+{a})^2+({c})", f"x^2+({2 * a})x+({a * a + c})")
    assert not is_right(f"(x+{a})^2+({c})", f"x^2+({2 * a})x+({a * a + c + 1})")


@_settings
@given(st.integers(1, 400), st.integers(1, 400))
def test_radicals_multiply(a: int, b: int) -> None:
    assert is_right(rf"\sqrt{{{a}}}\sqrt{{{b}}}", rf"\sqrt{{{a * b}}}")
    assert is_right(rf"\frac{{{a}}}{{\sqrt{{{b}}}}}", rf"\frac{{{a}\sqrt{{{b}}}}}{{{b}}}")


@_settings
@given(st.integers(1, 99), st.integers(1, 99), st.integers(-99, 99), st.integers(1, 9))
def test_an_equation_is_itself_times_a_factor(a: int, b: int, c: int, factor: int) -> None:
    equation = f"{a}x+{b}y={c}"
    assert is_right(f"{a * factor}x+{b * factor}y={c * factor}", equation)
    assert is_right(f"{c}={b}y+{a}x", equation)
    assert not is_right(f"{a}x+{b}y={c + 1}", equation)


@_settings
@given(st.integers(-99, 99), st.integers(1, 9))
def test_an_inequality_turns_with_its_sign(bound: int, factor: int) -> None:
    assert is_right(f"{bound} < x", f"x > {bound}")
    assert is_right(f"-{factor}x < {-factor * bound}", f"x > {bound}")
    assert is_right(rf"({bound}, \infty)", f"x > {bound}")
    assert not is_right(f"x < {bound}", f"x > {bound}")
    assert not is_right(f"x \\ge {bound}", f"x > {bound}")


_ATOMS = st.sampled_from(["x", "y", "1", "2", "7", r"\pi", "0.5", r"\frac{1}{3}", r"\sqrt{2}"])
_EXPRESSIONS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]}{t[1]}{t[2]})"),
        inner.map(lambda t: rf"\sqrt{{{t}^2+1}}"),
        st.tuples(inner, st.integers(2, 3)).map(lambda t: f"({t[0]})^{{{t[1]}}}"),
        inner.map(lambda t: rf"\sin({t})"),
    ),
    max_leaves=5,
)


@_settings
@given(_EXPRESSIONS, _EXPRESSIONS)
def test_equality_is_reflexive_and_commutes(matcher: MathMatcher, left: str, right: str) -> None:
    pairs = [(f"{left}+{right}", f"{right}+{left}"), (f"{left}*{right}", f"{right}*{left}"), (f"{left}+1", f"{left}+2")]
    verdicts = matcher.match(pairs)
    assert [verdict.correct for verdict in verdicts] == [True, True, False]


_TOKENS = [
    *(
        "\\frac",
        "\\sqrt",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "\\{",
        "\\}",
        "|",
        "^",
        "_",
        "!",
        "%",
        "1",
        "2",
        "9",
        "0.5",
        "x",
    ),
    *("e", "i", "\\pi", "\\infty", "+", "-", "*", "/", "=", "<", "\\le", ",", ";", " or ", "\\cup", "\\pm", "sin"),
    *("\\begin{pmatrix}", "\\end{pmatrix}", "&", "\\\\", "999", "^{", "½", "根号", "三", "分之", "万", "\\overline{3}"),
    *("__import__('os')", "lambda", "\x00", "\u202e", "nan", "1e999"),
]
_ANSWERS = [case.answer for case in builtin_cases("math") if case.correct]


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(_TOKENS), max_size=40).map("".join), st.sampled_from(_ANSWERS))
def test_nothing_raises(answer: str, reference: str) -> None:
    match_without_sympy(answer, reference)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_tree_or_a_mathtext_error(text: str) -> None:
    try:
        parse_answer(text)
    except MathTextError as error:
        assert str(error)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.lists(st.sampled_from(_TOKENS), max_size=25).map("".join), st.sampled_from(_ANSWERS))))
def test_no_batch_raises_and_each_pair_has_a_verdict(matcher: MathMatcher, pairs: list[tuple[str, str]]) -> None:
    assert len(matcher.match(pairs)) == len(pairs)
