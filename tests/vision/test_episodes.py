"""The learner on episodes that show pictures in the middle: transformers' own logprobs, one processing a picture, cuts."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rlcs.config import LearnerConfig
from rlcs.envs.base import work_out
from rlcs.envs.visual.gui_episode import GuiEpisode, next_action
from rlcs.learner.batching import families, make_batch
from rlcs.learner.learner import Learner
from rlcs.learner.limits import limit_lengths
from rlcs.learner.vision import cache_of
from rlcs.leftovers import LeftoverGroups
from rlcs.models import load_model
from rlcs.response_format import render_response
from rlcs.turns import TurnTemplate
from rlcs.types import Batch, FinishReason, Group, Image, Observation, Prompt, Response, Score
from rlcs.vision.pixels import EpisodeMedia, Pixels, decode_prompt
from rlcs.vision.processing import load_processor
from rlcs.vision.sft import IGNORED, LaterTurn, VisionCollator

G = 3
ENV = GuiEpisode()


def prompts(count: int) -> list[Prompt]:
    params = {"goals": ["switch", "file"], "pick": 2, "size": 56}
    return list(itertools.islice(ENV.generate("desktop", params, domain="desktop", tier=0, seed=0), count))


def expanded(processor: object, text: str, images: list[Image]) -> list[int]:
    """Tokens of a text with those that stand for its pictures, as the engine sees them."""
    shown = {"images": [[image.open() for image in images]]} if images else {}
    return processor(text=[text], **shown, add_special_tokens=False)["input_ids"][0]  # type: ignore[operator,no-any-return]


def play(processor: object, prompt: Prompt, num_turns: int, rng: np.random.Generator) -> Response:
    """An episode of worked actions, with random tokens put before each; its last turn samples an image token."""
    tokenizer = processor.tokenizer  # type: ignore[attr-defined]
    template = TurnTemplate(tokenizer)
    image = tokenizer.convert_tokens_to_ids("<|image|>")
    tokens: list[int] = []
    mask: list[bool] = []
    observations: list[Observation] = []
    state = ENV.reset(prompt)
    for turn in range(num_turns):
        said = render_response("", f"Action: {json.dumps(next_action(state, prompt.metadata['goal']))}")
        sampled = [*rng.integers(20, 250, 3).tolist(), *tokenizer.encode(said, add_special_tokens=False)]
        sampled += [image, 30] if turn == num_turns - 1 else [tokenizer.eos_token_id]
        tokens += sampled
        mask += [True] * len(sampled)
        if turn == num_turns - 1:
            break
        after = ENV.step(prompt, state, said)
        assert after.observation is not None
        between = template.between(prompt.messages, after.observation, tokens[-1])
        known = expanded(processor, between.text, list(after.images))
        observations.append(Observation(len(tokens), len(tokens) + len(known), 0, 0, after.images))
        tokens += known
        mask += [False] * len(known)
        state = after.state
    images = [image for each in observations for image in each.images]
    pixels = Pixels(tuple(np.asarray(i.open()) for i in images), digests=tuple(i.digest for i in images))
    return Response(
        np.asarray(tokens, np.int32),
        np.zeros(len(tokens), np.float32),
        np.asarray(mask, bool),
        "",
        FinishReason.STOP,
        0,
        Score(float(num_turns > 1)),
        observations=tuple(observations),
        media=pixels if images else None,
    )


@pytest.fixture(scope="module")
def groups(tiny_glm4v: Path) -> list[Group]:
    processor = load_processor(str(tiny_glm4v))
    rng = np.random.default_rng(0)
    made = []
    for prompt in prompts(2):
        text = processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
        ids = np.asarray(expanded(processor, text, list(prompt.images)), np.int32)
        responses = [play(processor, prompt, turns, rng) for turns in (1, 3, 3)]
        made.append(Group(prompt, ids, responses, media=decode_prompt(prompt)))
    return made


@pytest.fixture(scope="module")
def batch(groups: list[Group]) -> Batch:
    return make_batch(groups, np.resize([1.0, -1.0, 0.5], G * len(groups)))


def expected_logprobs(path: Path, groups: list[Group]) -> NDArray[np.float32]:
    """One forward of transformers' own an episode: all pictures at once, the sampled image token embedded as text."""
    model, processor = load_model(str(path)).eval(), load_processor(str(path))
    image = processor.tokenizer.convert_tokens_to_ids("<|image|>")
    parts = []
    for group in groups:
        for response in group.responses:
            shown = [*group.media.images, *(response.media.images if response.media is not None else ())]
            patches = processor.image_processor(images=Pixels(tuple(shown)).pictures(), return_tensors="pt")
            tokens = torch.from_numpy(np.concatenate([group.prompt_ids, response.token_ids]).astype(np.int64))[None]
            mask = np.concatenate([np.zeros(len(group.prompt_ids), bool), response.loss_mask])
            kinds = ((tokens == image) & ~torch.from_numpy(mask)[None]).long()
            grids = patches["image_grid_thw"]
            positions, _ = model.model.get_rope_index(tokens, mm_token_type_ids=kinds, image_grid_thw=grids)
            with torch.no_grad():
                features = model.model.get_image_features(patches["pixel_values"], grids, return_dict=True)
                embeds = model.get_input_embeddings()(tokens)
                embeds[kinds.bool()] = torch.cat(tuple(features.pooler_output))
                hidden = model.model.language_model(inputs_embeds=embeds, position_ids=positions).last_hidden_state
                scores = torch.log_softmax(model.lm_head(hidden[0, :-1]), -1)
            parts.append(scores.gather(1, tokens[0, 1:, None])[:, 0].numpy()[mask[1:]])
    return np.concatenate(parts)


def test_logprobs_are_those_of_transformers(tiny_glm4v: Path, groups: list[Group], batch: Batch) -> None:
    expected = expected_logprobs(tiny_glm4v, groups)
    for budget in (400, 4096):
        learner = Learner(str(tiny_glm4v), LearnerConfig(tokens_per_micro_batch=budget))
        assert np.abs(learner.logprobs(batch)[batch.loss_mask] - expected).max() < 1e-4


def test_episodes_of_a_prompt_share_it_whatever_they_show_later(batch: Batch) -> None:
    assert [type(media) for media in batch.media][:2] == [Pixels, EpisodeMedia]
    assert [len(family.sequences) for family in families(batch, np.arange(batch.num_sequences))] == [G, G]


def test_each_picture_is_processed_once_in_an_iteration(tiny_glm4v: Path, groups: list[Group], batch: Batch) -> None:
    learner = Learner(str(tiny_glm4v), LearnerConfig(tokens_per_micro_batch=400))
    for _ in range(2):
        learner.logprobs(batch)
    later = {digest for group in groups for r in group.responses if r.media is not None for digest in r.media.digests}
    cache = cache_of(learner.model)
    assert cache is not None and cache.processor.processed == len(groups) + len(later)
    assert len(later) < sum(len(r.media.digests) for g in groups for r in g.responses if r.media is not None)


def test_observations_are_not_learned(tiny_glm4v: Path, groups: list[Group], batch: Batch) -> None:
    for group in groups:
        for response in group.responses:
            for each in response.observations:
                assert not response.loss_mask[each.start : each.end].any()
            assert not response.is_forced
    assert batch.loss_mask.sum() == sum(int(r.loss_mask.sum()) for group in groups for r in group.responses)


def test_an_episode_that_is_cut_keeps_whole_observations_and_their_pictures(
    tiny_glm4v: Path, groups: list[Group]
) -> None:
    group = groups[0]
    whole = group.responses[1]
    middle = (whole.observations[1].start + whole.observations[1].end) // 2
    budget = len(group.prompt_ids) + middle
    (cut,), metrics = limit_lengths([group], LearnerConfig(long_sequences="truncate", tokens_per_micro_batch=budget))
    assert metrics["learner/long_sequences"] == 2
    short = cut.responses[1]
    assert len(short.token_ids) == whole.observations[1].start
    assert len(short.observations) == 1 and len(short.media.images) == 1
    learner = Learner(str(tiny_glm4v), LearnerConfig())
    long, kept = (learner.logprobs(make_batch([each], np.zeros(G))) for each in (group, cut))
    first = len(group.prompt_ids) + len(group.responses[0].token_ids)
    size = len(group.prompt_ids) + len(short.token_ids)
    np.testing.assert_allclose(kept[first : first + size], long[first : first + size], atol=1e-5)


def test_episodes_of_text_wait_over_a_stop_and_those_with_pictures_do_not(groups: list[Group]) -> None:
    text = replace(
        groups[0],
        media=None,
        prompt=replace(groups[0].prompt, images=()),
        responses=[
            replace(
                r, media=None, observations=tuple(replace(each, images=()) for each in r.observations), episode=r.reward
            )
            for r in groups[0].responses
        ],
    )
    waiting, resumed = LeftoverGroups(max_age=2), LeftoverGroups(max_age=2)
    waiting.keep([groups[1], text], np.zeros(0, np.int64), most=8)
    assert len(waiting) == 2
    resumed.load_state_dict(waiting.state_dict(), [text.prompt])
    assert len(resumed) == len(resumed.ages) == 1
    for before, after in zip(text.responses, resumed.groups[0].responses, strict=True):
        assert after.observations == before.observations and after.episode == before.episode
        assert np.array_equal(after.loss_mask, before.loss_mask)


def test_the_cold_start_learns_all_turns_and_no_observation(tiny_glm4v: Path) -> None:
    processor = load_processor(str(tiny_glm4v))
    (prompt,) = prompts(1)
    turns = work_out(ENV, prompt)
    assert turns is not None and len(turns) >= 5
    texts = [render_response(turn.solution.thinking, turn.solution.answer) for turn in turns]
    later = [LaterTurn(t.observation, t.images, text) for t, text in zip(turns[1:], texts[1:], strict=True)]
    batch = VisionCollator(processor, [prompt], [texts[0]], [later])([{"example": 0}])
    learned = batch["input_ids"][0][batch["labels"][0] != IGNORED]
    assert processor.tokenizer.decode(learned) == "".join(text + processor.tokenizer.eos_token for text in texts)
    assert len(batch["image_grid_thw"]) == len(turns)
    assert np.isfinite(load_model(str(tiny_glm4v))(**batch).loss.item())
