"""Actions on screens: grammars, parts, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.errors import RewardError
from rlcs.response_format import render_response
from rlcs.rewards.case_files import Case, builtin_cases
from rlcs.rewards.gui import Gui
from rlcs.rewards.gui_actions import Action, ActionType, parse_action, parse_chord
from rlcs.rewards.gui_actions.action import Target
from rlcs.rewards.gui_actions.render import to_json_action, to_osworld_action, to_webvoyager_action
from rlcs.rewards.literals import LiteralError
from rlcs.rewards.verifier import JudgeRequest
from rlcs.types import Score

_CASES = builtin_cases("gui")
_REWARD = Gui()

_NUMBERS = st.integers(0, 999).map(float)
_POINTS = st.tuples(_NUMBERS, _NUMBERS)
_BOXES = st.tuples(_POINTS, _POINTS).map(
    lambda t: (min(t[0][0], t[1][0]), min(t[0][1], t[1][1]), max(t[0][0], t[1][0]), max(t[0][1], t[1][1]))
)
_TARGETS = st.builds(Target, box=_BOXES) | st.builds(Target, point=_POINTS)
_WEB_TARGETS = _TARGETS | st.builds(Target, box=_BOXES, point=_POINTS)
_TEXTS = st.text(max_size=30)
_DIRECTIONS = st.sampled_from(["up", "down", "left", "right"])
_CHORDS = st.frozensets(st.sampled_from(["ctrl", "shift", "alt", "a", "c", "+", "f5", "enter", "pagedown"]), min_size=1)


def _of(kind: ActionType, **fields: Any) -> st.SearchStrategy[Action]:
    return st.builds(Action, st.just(kind), **fields)


_JSON_ACTIONS = st.one_of(
    _of(ActionType.CLICK, target=_TARGETS | st.integers(0, 99).map(lambda n: Target(element=str(n)))),
    _of(ActionType.LONG_PRESS, target=_TARGETS),
    _of(ActionType.TYPE, target=st.none() | _TARGETS, text=_TEXTS, override=st.none() | st.booleans()),
    _of(ActionType.SCROLL, target=st.none() | _TARGETS, direction=_DIRECTIONS),
    _of(ActionType.OPEN_APP, app=_TEXTS),
    _of(ActionType.ANSWER, text=_TEXTS),
    _of(ActionType.STATUS, status=st.sampled_from(["complete", "infeasible"])),
    _of(ActionType.KEY, keys=st.just(frozenset({"enter"}))),
    _of(ActionType.WAIT),
    _of(ActionType.BACK),
    _of(ActionType.HOME),
)
_OSWORLD_ACTIONS = st.one_of(
    _of(ActionType.CLICK, target=_TARGETS),
    _of(ActionType.RIGHT_CLICK, target=_TARGETS),
    _of(ActionType.DRAG, target=_TARGETS, end=_TARGETS),
    _of(ActionType.SCROLL, target=_TARGETS, direction=_DIRECTIONS, distance=st.integers(0, 20).map(float)),
    _of(ActionType.TYPE, text=_TEXTS),
    _of(ActionType.KEY, keys=_CHORDS),
    _of(ActionType.STATUS, status=st.sampled_from(["complete", "infeasible"])),
    _of(ActionType.WAIT),
)
_WEB_ACTIONS = st.one_of(
    _of(ActionType.CLICK, target=_WEB_TARGETS),
    _of(ActionType.TYPE, target=st.none() | _WEB_TARGETS, text=_TEXTS),
    _of(ActionType.SCROLL, target=_WEB_TARGETS, direction=_DIRECTIONS, distance=st.none() | st.floats(0, 5)),
    _of(ActionType.KEY, keys=_CHORDS),
    _of(ActionType.ANSWER, text=_TEXTS),
    _of(ActionType.BACK),
)


def _score(answer: str, reference: str, reward: Gui = _REWARD, **columns: Any) -> Score:
    score = reward.score(render_response("", answer), reference, **columns)
    assert score is not None and 0.0 <= score.value <= 1.0
    return score


@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"line {case.line}")
def test_gui_gets_its_cases_right(case: Case) -> None:
    score = _REWARD.score(case.completion, case.answer, **case.columns)
    assert case.is_met_by(score), f"{case.note}: {score}"
    assert _REWARD.validate(case.answer, **case.columns) is None


@given(_JSON_ACTIONS)
def test_json_actions_are_read_back(action: Action) -> None:
    assert parse_action(to_json_action(action)) == action


@given(_OSWORLD_ACTIONS)
def test_osworld_actions_are_read_back(action: Action) -> None:
    assert parse_action("Action: " + to_osworld_action(action)) == action


@given(_WEB_ACTIONS)
def test_webvoyager_actions_are_read_back(action: Action) -> None:
    assert parse_action(to_webvoyager_action(action)) == action


@given(_OSWORLD_ACTIONS)
def test_an_action_is_right_against_itself_by_any_way_of_combining(action: Action) -> None:
    text = to_osworld_action(action)
    for combine in ("mean", "product", "all"):
        score = _score(text, text, Gui(combine=combine))
        assert score.correct and score.value == pytest.approx(1.0), score


@given(_OSWORLD_ACTIONS, _OSWORLD_ACTIONS)
def test_ways_of_combining_are_ordered_and_agree_on_what_is_right(a: Action, b: Action) -> None:
    answer, reference = to_osworld_action(a), to_osworld_action(b)
    mean, product, everything = (_score(answer, reference, Gui(combine=c)) for c in ("mean", "product", "all"))
    assert product.value <= mean.value + 1e-9
    assert mean.correct == product.correct == everything.correct == (everything.value == 1.0)


@given(st.text(max_size=20), st.text(max_size=20))
def test_nothing_can_follow_an_action(tail: str, text: str) -> None:
    if not tail.strip():
        return
    for whole in (
        '{"action_type": "wait"}',
        to_osworld_action(Action(ActionType.TYPE, text=text)),
        "Click [12]" + tail.strip()[0].replace(".", "x"),
    ):
        with pytest.raises(LiteralError):
            parse_action(f"{whole} {tail}")


@given(_POINTS, st.floats(0, 300), st.floats(0, 300))
def test_the_value_falls_with_the_distance(point: tuple[float, float], a: float, b: float) -> None:
    near, far = sorted((a, b))
    reward = Gui(target_rule="distance", max_coordinate=2000)
    reference = f"left_click(start_box='[{point[0]}, {point[1]}]')"
    values = [
        _score(f"left_click(start_box='[{point[0] + distance:.4f}, {point[1]}]')", reference, reward).value
        for distance in (near, far)
    ]
    assert values[0] >= values[1] - 1e-4


@pytest.mark.parametrize(
    ("a", "b"), [("ctrl+shift+t", "Shift + Ctrl + T"), ("Return", "enter"), ("page down", "PageDown"), ("+", "+")]
)
def test_chords_are_sets(a: str, b: str) -> None:
    assert parse_chord(a) == parse_chord(b)


@pytest.mark.parametrize("text", ["", "+a", "ctrl+ctrl", "a+", "x" * 100, "press the enter key"])
def test_what_is_no_chord_is_refused(text: str) -> None:
    with pytest.raises(LiteralError):
        parse_chord(text)


def test_parts_are_named() -> None:
    reference = "TYPE(point=(200, 100), text='abcd')"
    assert _score("TYPE(point=(900, 100), text='abce')", reference).parts == {"type": 1.0, "target": 0.0, "text": 0.75}
    assert _score("WAIT()", reference).parts == {"type": 0.0}


def test_a_fixed_grammar_refuses_the_others() -> None:
    reward = Gui(grammar="json")
    click = '{"action_type": "click", "x": 5, "y": 5}'
    assert _score(click, "left_click(start_box='[5, 5]')", reward).correct
    assert not _score("left_click(start_box='[5, 5]')", click, reward).correct
    for grammar in ("osworld", "webvoyager"):
        assert _score("WAIT()", "WAIT()", Gui(grammar=grammar)).correct


def test_a_judge_decides_on_answers_in_other_words() -> None:
    class Yes:
        def judge(self, requests: list[JudgeRequest]) -> list[Score | None]:
            return [Score(1.0, correct=True, detail="judged") for _ in requests]

    reward = Gui(judge=Yes())
    assert _score("ANSWER(content='a dozen')", "ANSWER(content='12')", reward).detail == "judged"
    assert _score("WAIT()", "ANSWER(content='12')", reward).value == 0.0
    assert _score("GO_BACK()", "GO_BACK()", reward).detail != "judged"


@pytest.mark.parametrize(
    ("answer", "columns"),
    [
        ("click the button", {}),
        ("left_click()", {}),
        ('{"action_type": "click"}', {}),
        ("left_drag(start_box='[1, 2]')", {}),
        ("CLICK(box=[[5, 5, 5, 9]])", {"target_rule": "iou"}),
        ("WAIT()", {"target_rule": "nearest"}),
        ("WAIT()", {"iou_threshold": 2}),
        ("", {}),
    ],
)
def test_references_that_cannot_be_used_are_found(answer: str, columns: dict[str, Any]) -> None:
    reason = _REWARD.validate(answer, **columns)
    assert reason is not None and "\n" not in reason


@pytest.mark.parametrize(
    "options",
    [
        {"grammar": "xml"},
        {"target_rule": "x"},
        {"combine": "sum"},
        {"iou_threshold": 0},
        {"type_weight": 2},
        {"radius": 99},
    ],
)
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(RewardError, match=next(iter(options))):
        Gui(**options)


@given(st.text(max_size=80) | st.text(alphabet="ACDKLTYPClicktype(){}[]<>;:=,.'\"\\ 0123456789", max_size=60))
def test_no_answer_makes_it_raise(text: str) -> None:
    for answer in (text, f"type(content='{text}')", f"Type [3]; [{text}]", text + "\ud800"):
        _score(answer, "type(content='a')")
        _REWARD.validate(answer)


@pytest.mark.parametrize(
    "text",
    [
        "type(content='" + "\\'" * 9_000,
        "(" * 20_000,
        "ANSWER; <content>" * 1_000,
        "Type [3]; " + "[" * 9_000,
        "a" * 100_000,
        "x=" * 9_000,
    ],
)
def test_hostile_texts_are_refused(text: str) -> None:
    with pytest.raises(LiteralError):
        parse_action(text)
