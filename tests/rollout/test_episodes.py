"""Episodes against a scripted policy: what the learner gets, limits, errors of the environment, one that hangs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rlcs.config_loading import load_config
from rlcs.envs.base import EpisodeEnvironment, load_env
from rlcs.errors import ConfigError
from rlcs.models import load_tokenizer
from rlcs.response_format import render_response
from rlcs.rewards.loading import load_reward
from rlcs.rollout.backend import Sample
from rlcs.rollout.episodes import EpisodePlayer, EpisodeSettings, PolicySide, episode_metrics
from rlcs.rollout.work import SamplingSettings
from rlcs.types import FinishReason, Group, Prompt, Response
from rlcs.vision.pixels import Pixels

GUESS = "examples/guess_number.py:GuessNumber"

FAULTY = """
import time
from rlcs.envs.base import EpisodeEnvironment, Turn
from rlcs.types import Score

class Faulty(EpisodeEnvironment):
    max_turns = 3
    def levels(self, task): return [{}]
    def generate(self, task, params, *, domain, tier, seed): yield from ()
    def reset(self, prompt): return {"steps": 0}
    def step(self, prompt, state, response):
        if "hang" in response:
            while True: pass
        if "raise" in response: raise ValueError("no such file")
        if "nothing" in response: return Turn(state)
        if "done" in response: return Turn(state, score=Score(1.0, correct=True))
        return Turn({"steps": state["steps"] + 1}, [{"type": "text", "text": f"step {state['steps'] + 1}"}])
    def give_up(self, prompt, state): return Score(state["steps"] / 10, correct=False)
"""


class Script:
    """Says what a function of prompt and turn tells; every request is checked to begin with what was sent before."""

    def __init__(self, tokenizer: Any, say: Callable[[str, int], str]) -> None:
        self.tokenizer, self.say = tokenizer, say
        self.waiting: list[tuple[str, list[int], int]] = []
        self.sent: dict[str, list[int]] = {}
        self.turns: dict[str, int] = {}

    def add(self, key: str, token_ids: Sequence[int], pixels: Pixels | None, max_tokens: int) -> None:
        tokens = list(token_ids)
        assert tokens[: len(self.sent.get(key, []))] == self.sent.get(key, []), "nothing is tokenized again"
        assert max_tokens > 0 and pixels is None
        self.waiting.append((key, tokens, max_tokens))

    def step(self) -> list[Sample]:
        key, tokens, most = self.waiting.pop()
        turn = self.turns[key] = self.turns.get(key, -1) + 1
        text = self.say(self.tokenizer.decode(tokens, skip_special_tokens=False), turn)
        said = [*self.tokenizer.encode(text, add_special_tokens=False), self.tokenizer.eos_token_id]
        sampled = said[:most]
        self.sent[key] = [*tokens, *sampled]
        logprobs = np.full(len(sampled), -0.5, np.float32)
        return [Sample(key, tokens, sampled, logprobs, is_cut=len(said) > most)]


Play = Callable[..., list[Response]]


@pytest.fixture
def play(tiny_policy: Path) -> Iterator[Play]:
    """The episodes of some prompts, one of each."""
    tokenizer = load_tokenizer(str(tiny_policy))
    players = []

    def run(
        settings: EpisodeSettings,
        prompts: list[Prompt],
        say: Callable[[str, int], str],
        max_tokens: int = 400,
        budget: int | None = None,
    ) -> list[Response]:
        player = EpisodePlayer(settings)
        players.append(player)
        ids = [
            np.asarray(
                tokenizer.apply_chat_template(p.messages, add_generation_prompt=True, tokenize=True, return_dict=False)
            )
            for p in prompts
        ]
        waiting = iter(range(len(prompts)))
        answers = player.play(
            Script(tokenizer, say),
            PolicySide(tokenizer, version=3),
            prompts,
            ids,
            [1] * len(prompts),
            SamplingSettings(max_tokens, 1.0, 1.0, budget),
            lambda most: list(itertools.islice(waiting, most)),
            deadline_s=60,
            max_running=4,
        )
        found = [answer for answer in answers if answer is not None]
        return [answer.responses[0] for answer in sorted(found, key=lambda answer: answer.index)]

    yield run
    for player in players:
        player.close()


def games(count: int, most: int = 15) -> list[Prompt]:
    env = load_env(GUESS)
    return list(itertools.islice(env.generate("guess", {"most": most}, domain="guess", tier=0, seed=0), count))


def halve(seen: str, turn: int) -> str:
    """A good player: reads the conversation and takes the middle."""
    low, high = 1, int(re.findall(r"1 to (\d+)", seen)[0])
    for guess, told in re.findall(r"<\|begin_of_box\|>(\d+)<\|end_of_box\|>.*?(Higher|Lower)", seen, re.S):
        low, high = (int(guess) + 1, high) if told == "Higher" else (low, int(guess) - 1)
    return render_response("", str((low + high) // 2))


def faulty(tmp_path: Path, **options: Any) -> EpisodeSettings:
    path = tmp_path / "faulty.py"
    path.write_text(FAULTY)
    return EpisodeSettings(f"{path}:Faulty", **{"max_turns": 3, **options})


def task() -> Prompt:
    return Prompt("p", [{"role": "user", "content": "What is 1?"}], "1")


def test_a_good_player_finds_the_number_and_nothing_but_its_own_tokens_is_learned(
    play: Play, tiny_policy: Path
) -> None:
    tokenizer = load_tokenizer(str(tiny_policy))
    prompts = games(8)
    responses = play(EpisodeSettings(GUESS, max_turns=6, workers=2), prompts, halve)
    assert len({response.num_turns for response in responses}) > 1
    for prompt, response in zip(prompts, responses, strict=True):
        assert response.episode is not None and response.episode.correct
        assert response.finish_reason == FinishReason.STOP and response.policy_version == 3
        assert response.last_text == render_response("", prompt.answer)
        observed = np.zeros(len(response.token_ids), bool)
        for each in response.observations:
            observed[each.start : each.end] = True
            told = tokenizer.decode(response.token_ids[each.start : each.end], skip_special_tokens=False)
            assert told == response.text[each.text_start : each.text_end]
            assert re.fullmatch(r"<\|user\|>(Higher|Lower)\.<\|assistant\|>", told)
        assert np.array_equal(response.loss_mask, ~observed)
        assert set(response.logprobs[observed]) <= {0.0} and set(response.logprobs[~observed]) == {np.float32(-0.5)}
        assert not response.is_forced
        ends = response.token_ids == tokenizer.eos_token_id
        assert ends.sum() == response.num_turns and response.loss_mask[ends].all()


def test_the_reward_is_what_the_environment_says(play: Play) -> None:
    prompts = games(4)
    responses = play(EpisodeSettings(GUESS, max_turns=1), prompts, halve)
    scores = load_reward("episode").score_batch(
        prompts, [r.last_text for r in responses], None, [r.episode for r in responses]
    )
    for score, response in zip(scores, responses, strict=True):
        assert score is not None and score == response.episode
    assert {response.finish_reason for response in responses} == {FinishReason.LENGTH}
    assert 0.0 < min(response.episode.value for response in responses if response.episode is not None) < 0.5
    (none,) = load_reward("episode").score_batch(prompts[:1], ["1"])
    assert none is not None and none.value == 0.0


@pytest.mark.parametrize(
    ("say", "told"), [("raise", "no such file"), ("nothing", "needs an observation"), ("hang", "timed out")]
)
def test_an_environment_that_fails_or_hangs_is_an_observation(play: Play, tmp_path: Path, say: str, told: str) -> None:
    (response,) = play(faulty(tmp_path, step_timeout_s=5.0), [task()], lambda _, turn: say if turn == 1 else "go")
    assert response.num_turns == 3
    first, second = response.observations
    assert not first.is_error and second.is_error
    assert "Error: the environment failed: " in response.text and told in response.text
    assert response.episode is not None
    assert response.episode.value == pytest.approx(0.2), "it goes on with the last good state"
    group = Group(task(), np.zeros(1, np.int32), [response])
    assert episode_metrics([group])["rollout/step_errors"] == 0.5
    assert group.generated_tokens == int(response.loss_mask.sum())


def test_an_environment_that_only_fails_ends_the_run(play: Play, tmp_path: Path) -> None:
    settings = faulty(tmp_path, max_turns=40)
    with pytest.raises(ConfigError, match="failed at each of its first 32 steps: ValueError: no such file"):
        play(settings, [task()], lambda seen, turn: "raise", 10_000)


def test_turns_and_tokens_are_limited(play: Play, tmp_path: Path) -> None:
    (turns,) = play(faulty(tmp_path), [task()], lambda seen, turn: "go")
    assert turns.num_turns == 3 and turns.episode is not None and turns.episode.value == pytest.approx(0.3)
    (whole,) = play(faulty(tmp_path, max_turns=9), [task()], lambda seen, turn: "go", 40)
    assert whole.num_turns > 1 and len(whole.token_ids) <= 40
    (short,) = play(faulty(tmp_path, max_turn_tokens=2), [task()], lambda seen, turn: "go go go go")
    assert short.observations[0].start == 2
    assert short.text[short.observations[0].text_start :].startswith("<|endoftext|>"), "a turn that was cut is ended"
    assert {turns.finish_reason, whole.finish_reason, short.finish_reason} == {FinishReason.LENGTH}


def test_each_turn_may_be_made_to_answer(play: Play, tmp_path: Path) -> None:
    def say(seen: str, turn: int) -> str:
        return "<think>1 1 1 1 1 1 1 1" if seen.endswith("<|assistant|>") else "go"

    (response,) = play(faulty(tmp_path), [task()], say, 400, budget=5)
    assert response.is_forced and response.num_turns == 3
    assert response.text.count("</think><answer>") == 3


def test_settings_come_from_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    data = {"env": f"{Path('examples/guess_number.py').absolute()}:GuessNumber", "tasks": [{"task": "guess"}]}
    rollout = {"episodes": {"max_turn_length": 20}}
    path.write_text(yaml.safe_dump({"model": {"init": "tiny"}, "data": data, "rollout": rollout}))
    settings = EpisodeSettings.of(load_config(path))
    assert settings is not None and (settings.max_turns, settings.max_turn_tokens) == (6, 20)
    assert EpisodeSettings.of(load_config(Path("configs/quickstart.yaml"))) is None
    assert isinstance(load_env(GUESS), EpisodeEnvironment)
