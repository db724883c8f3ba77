"""The visual environment: five levels a task, pictures that are a function of the seed, worked solutions that score 1."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pickle  # noqa: TID251 - as Ray sends prompts; no file is read
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlcs.config import DataConfig
from rlcs.config_loading import load_config
from rlcs.data import question_id
from rlcs.envs.base import build_solutions, build_splits, load_env
from rlcs.envs.visual.env import TASKS, VisualEnv, load_task
from rlcs.errors import ConfigError
from rlcs.response_format import render_response
from rlcs.rewards.loading import LoadedReward, load_reward
from rlcs.types import Prompt, prompt_id

ENV = VisualEnv()
each_task = pytest.mark.parametrize("task", TASKS)
each_level = pytest.mark.parametrize("level", range(5))


def make(task: str, level: int, count: int, seed: int = 0, **params: Any) -> list[Prompt]:
    chosen = {**ENV.levels(task)[level], **params}
    return list(itertools.islice(ENV.generate(task, chosen, domain=task, tier=level, seed=seed), count))


def files(prompt: Prompt) -> list[bytes]:
    """The picture files of a prompt."""
    return [image.data for image in (*prompt.images, *(frame for video in prompt.videos for frame in video.frames))]


def data_config(*tasks: str | dict[str, Any], **options: Any) -> DataConfig:
    named = [{"task": task} if isinstance(task, str) else task for task in tasks]
    return DataConfig(env="visual", tasks=named, **{"train_per_level": 16, "eval_per_level": 4, **options})


@pytest.fixture(scope="module")
def verifier() -> LoadedReward:
    return load_reward(ENV.reward)


@each_task
@each_level
def test_worked_solutions_score_one_and_others_hardly_anything(task: str, level: int, verifier: LoadedReward) -> None:
    prompts = make(task, level, 20)
    solutions = [ENV.solve(prompt) for prompt in prompts]
    assert [verifier.validate(prompt) for prompt in prompts] == [None] * 20
    right = [render_response(solution.thinking, solution.answer) for solution in solutions]
    for prompt, score in zip(prompts, verifier.score_batch(prompts, right), strict=True):
        assert score is not None and score.value == 1.0 and score.correct, (prompt.answer, score)
    for solution in solutions:
        assert 0 < len(solution.thinking) <= 60
    for wrong in ("", "no idea", "-7.25", "[[0, 0, 1, 1]]"):
        scores = verifier.score_batch(prompts, [render_response("", wrong)] * 20)
        values = [score.value for score in scores if score is not None]
        assert len(values) == 20 and sum(values) / 20 < 0.2, wrong
    # The answer of another prompt is right as often as few answers are possible, not more.
    shifted = verifier.score_batch(prompts, right[1:] + right[:1])
    assert sum(score.value for score in shifted if score is not None) / 20 < 0.85


@each_task
@each_level
def test_pictures_are_what_the_prompt_says(task: str, level: int) -> None:
    for prompt in make(task, level, 5):
        (message,) = prompt.messages
        kinds = Counter(part["type"] for part in message["content"])
        assert kinds == Counter({"image": len(prompt.images), "video": len(prompt.videos), "text": 1}) - Counter()
        assert prompt.images or prompt.videos
        size = {image.open().size for image in prompt.images} | {
            frame.open().size for video in prompt.videos for frame in video.frames
        }
        (found,) = size
        wanted = ENV.levels(task)[level].get("size", 112)
        assert found == (wanted, wanted)
        assert prompt.id == prompt_id(prompt.messages, prompt.answer, prompt.images, prompt.videos)


@each_task
def test_same_seed_gives_the_same_bytes_and_another_gives_others(task: str) -> None:
    for level in (0, 4):
        first = make(task, level, 4, seed=1)
        again = make(task, level, 4, seed=1)
        assert first == again and [files(p) for p in first] == [files(p) for p in again]
        assert [files(p) for p in first] != [files(p) for p in make(task, level, 4, seed=2)]
        for prompt in first:
            assert files(pickle.loads(pickle.dumps(prompt))) == files(prompt)


def test_bytes_are_the_same_in_another_process() -> None:
    program = (
        "import hashlib, itertools\nfrom rlcs.envs.visual.env import TASKS, VisualEnv\nenv = VisualEnv()\n"
        "digest = hashlib.sha256()\n"
        "for task in TASKS:\n"
        "    for p in itertools.islice(env.generate(task, env.levels(task)[3], domain='d', tier=3, seed=5), 3):\n"
        "        for i in (*p.images, *(f for v in p.videos for f in v.frames)):\n"
        "            digest.update(i.data)\n"
        "print(digest.hexdigest())"
    )
    environments = [{**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    runs = [
        subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True).stdout
        for env in environments
    ]
    digest = hashlib.sha256()
    for task in TASKS:
        for prompt in make(task, 3, 3, seed=5):
            for data in files(prompt):
                digest.update(data)
    assert runs == [f"{digest.hexdigest()}\n"] * 2


@each_task
def test_different_digests_are_different_pictures(task: str) -> None:
    # A held-out picture must not come up in training under another digest.
    for level in (0, 2):
        seen: dict[bytes, str] = {}
        for prompt in make(task, level, 60):
            key = b"".join(files(prompt)) + str(prompt.messages).encode()
            assert seen.setdefault(key, question_id(prompt)) == question_id(prompt)


def test_splits_and_solutions_have_every_task_and_tier_and_do_not_overlap() -> None:
    config = data_config(*TASKS)
    splits = build_splits(ENV, config, seed=3)
    for prompts, count in ((splits.train, 16), (splits.eval, 4)):
        counts = Counter((prompt.domain, prompt.tier) for prompt in prompts)
        assert counts == {(task, tier): count for task in TASKS for tier in range(5)}
    held_out = {question_id(prompt) for prompt in splits.eval}
    assert not held_out & {question_id(prompt) for prompt in splits.train}
    solutions = build_solutions(ENV, config, count=200, level_weights=[], held_out=splits.eval, seed=3)
    assert len(solutions) == 200 and not held_out & {question_id(prompt) for prompt, _ in solutions}


def test_parameters_for_all_levels_and_own_levels() -> None:
    config = data_config({"task": "counting", "params": {"size": 56}}, {"task": "ocr", "levels": [{"kind": "word"}]})
    prompts = build_splits(load_env("visual"), config, seed=0).train
    sizes = {(prompt.domain, prompt.images[0].open().size) for prompt in prompts}
    assert sizes == {("counting", (56, 56)), ("ocr", (112, 112))}
    assert {prompt.tier for prompt in prompts if prompt.domain == "ocr"} == {2}


def test_system_prompt_keeps_the_pictures() -> None:
    prompts = build_splits(ENV, data_config("ocr", system_prompt="Be brief."), seed=0).train
    assert all(prompt.messages[0]["role"] == "system" and prompt.images for prompt in prompts)


def test_prompt_holds_no_pixels() -> None:
    for task in TASKS:
        assert len(pickle.dumps(make(task, 4, 1)[0])) < 16_000


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sise": 112}, "the visual task 'counting' has no parameter 'sise'; did you mean 'size'?"),
        ({"size": 9000}, "the visual task 'counting' refuses size 9000: Input should be less than or equal to 1024"),
        ({"most": 0}, "the visual task 'counting' refuses most 0: "),
        ({"least": 5, "most": 2}, r"least \(5\) is more than most \(2\)"),
    ],
)
def test_wrong_parameters_are_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        next(ENV.generate("counting", params, domain="d", tier=0, seed=0))
    assert "\n" not in str(caught.value)


def test_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no task 'countin'; did you mean 'counting'?"):
        ENV.levels("countin")


@each_task
def test_built_in_levels_are_five(task: str) -> None:
    assert len(load_task(task).levels) == 5


def test_chart_is_drawn_by_matplotlib_where_asked() -> None:
    for kind in ("bar", "line", "pie"):
        for level in (1, 2):
            ours, theirs = (
                make("chart", level, 2, seed=4, kinds=[kind], renderer=renderer)[1]
                for renderer in ("pil", "matplotlib")
            )
            assert (ours.messages, ours.answer) == (theirs.messages, theirs.answer)
            assert files(theirs) == files(theirs) != files(ours)
            assert ours.id != theirs.id and theirs.images[0].open().size == ours.images[0].open().size


def test_boxes_and_things_lie_inside_of_the_picture() -> None:
    for task, level in itertools.product(("grounding", "counting", "spatial"), range(5)):
        for prompt in make(task, level, 30):
            source: Any = prompt.images[0].source
            for _, _, box, *_ in json.loads(source.args[1])["things"]:
                assert min(box) >= 0 and max(box) <= 1000 and box[0] < box[2] and box[1] < box[3]


def test_grounding_boxes_hold_their_thing() -> None:
    for prompt in make("grounding", 2, 20):
        box = json.loads(prompt.answer)
        picture = np.asarray(prompt.images[0].open()).astype(int)
        x1, y1, x2, y2 = (round(value * picture.shape[0] / 1000) for value in box)
        inside = picture[y1:y2, x1:x2].reshape(-1, 3)
        assert ((inside < 240).any(axis=1)).mean() > 0.25, "a good part of the box is coloured"


@pytest.mark.parametrize(("task", "params"), [("ocr", {"max_length": 1}), ("handwriting", {})])
def test_spread_says_how_far_from_the_middle_a_text_stands(task: str, params: dict[str, Any]) -> None:
    def places(spread: int) -> set[tuple[int, int]]:
        maker = load_task(task)
        checked = maker.params(**params, spread=spread)
        scenes = [maker.sample(random.Random(n), checked).scenes[0] for n in range(60)]
        return {(scene["at"][0], scene["at"][1]) for scene in scenes}

    assert len(places(0)) == 1
    near, far = (np.ptp(np.asarray(sorted(places(spread))), axis=0) for spread in (300, 1000))
    assert (near > 0).all() and (near < 0.5 * far).all()


def test_worked_solutions_say_where_things_are_as_coarsely_as_asked() -> None:
    maker = load_task("spatial")
    places: dict[int, set[int]] = {}
    for snap in (10, 250):
        checked = maker.params(asks=["side", "direction"], snap=snap)
        solutions = [maker.sample(random.Random(n), checked).thinking for n in range(50)]
        places[snap] = {int(number) for solution in solutions for number in re.findall(r"\d+", solution)}
    assert places[250] == {25, 75} and len(places[10]) > 5


def test_the_quickstart_has_five_domains_of_five_tiers_that_differ() -> None:
    config = load_config(Path(__file__).parents[2] / "configs" / "quickstart_vision.yaml")
    small = config.data.model_copy(update={"train_per_level": 200, "eval_per_level": 12})
    splits = build_splits(load_env("visual"), small, 0)
    cells = Counter((prompt.domain, prompt.tier) for prompt in splits.eval)
    assert len({domain for domain, _ in cells}) >= 5 and len(cells) == 25
    assert set(cells.values()) == {12}, "a level that repeats another, or has few pictures, has fewer held-out prompts"
    assert all(prompt.images[0].open().size == (56, 56) for prompt in splits.eval)
