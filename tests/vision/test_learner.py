"""The learner on prompts with pictures and videos: packed rows, shared prompts, one processing a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rlcs.config import LearnerConfig, ModelConfig
from rlcs.config_lora import LoRAConfig
from rlcs.errors import ConfigError, DataError
from rlcs.learner.batching import families, make_batch
from rlcs.learner.learner import Learner
from rlcs.learner.vision import cache_of
from rlcs.leftovers import LeftoverGroups
from rlcs.merge import merge
from rlcs.rollout.adapter import choose_mode
from rlcs.types import Batch, FinishReason, Group, Prompt, Response, Score
from rlcs.vision.pixels import Pixels, decode_prompt
from rlcs.vision.processing import VisionProcessor, load_processor

G = 3


def encode(processor: object, prompt: Prompt, pixels: Pixels) -> dict[str, torch.Tensor]:
    """A prompt's inputs as transformers' own processor makes them."""
    shown: dict[str, object] = {"images": [pixels.pictures()]} if pixels.images else {}
    if pixels.videos:
        shown["videos"] = [video.pixels for video in pixels.videos]
        shown |= {"video_metadata": [video.metadata for video in pixels.videos], "do_sample_frames": False}
    text = processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)  # type: ignore[attr-defined]
    return dict(processor(text=[text], **shown, add_special_tokens=False, return_tensors="pt"))  # type: ignore[operator]


@pytest.fixture(scope="module")
def groups(tiny_glm4v: Path, visual_prompts: list[Prompt]) -> list[Group]:
    processor = load_processor(str(tiny_glm4v))
    image = processor.tokenizer.convert_tokens_to_ids("<|image|>")
    rng = np.random.default_rng(0)
    made = []
    for prompt in visual_prompts:
        pixels = decode_prompt(prompt)
        responses = []
        for sample in range(G):
            tokens = rng.integers(20, 250, rng.integers(3, 9)).astype(np.int32)
            tokens[1] = image  # a young policy samples it; it is a token like others then
            mask = np.ones(len(tokens), bool)
            zeros = np.zeros(len(tokens), np.float32)
            reward = Score(float(sample % 2))
            responses.append(Response(tokens, zeros, mask, "", FinishReason.STOP, 0, reward))
        ids = encode(processor, prompt, pixels)["input_ids"][0].numpy().astype(np.int32)
        made.append(Group(prompt, ids, responses, media=pixels))
    return made


@pytest.fixture(scope="module")
def batch(groups: list[Group]) -> Batch:
    return make_batch(groups, np.resize([1.0, -1.0, 0.5], G * len(groups)))


def expected_logprobs(path: Path, groups: list[Group]) -> NDArray[np.float32]:
    """Of all responses, one forward of transformers' own each, the sampled image tokens embedded as text."""
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(path).eval()
    processor = load_processor(str(path))
    parts = []
    for group in groups:
        inputs = encode(processor, group.prompt, group.media)
        positions, _ = model.model.get_rope_index(
            inputs["input_ids"], **{k: v for k, v in inputs.items() if k.endswith(("thw", "type_ids"))}
        )
        with torch.no_grad():
            prompt = model.model(**inputs, use_cache=True)
            for response in group.responses:
                tokens = torch.from_numpy(response.token_ids.astype(np.int64))
                count, size = len(tokens), inputs["input_ids"].shape[1]
                after = positions.max() + 1 + torch.arange(count)
                features = [prompt.last_hidden_state[0, -1:]]
                import copy

                cache = copy.deepcopy(prompt.past_key_values)
                output = model.model.language_model(
                    inputs_embeds=model.get_input_embeddings()(tokens)[None],
                    position_ids=after.expand(3, 1, count),
                    attention_mask=torch.ones(1, size + count),
                    past_key_values=cache,
                )
                features.append(output.last_hidden_state[0, :-1])
                scores = torch.log_softmax(model.lm_head(torch.cat(features)), -1)
                parts.append(scores.gather(1, tokens[:, None])[:, 0].numpy())
    return np.concatenate(parts)


@pytest.mark.parametrize("budget", [60, 4096])
def test_logprobs_are_those_of_transformers(tiny_glm4v: Path, groups: list[Group], batch: Batch, budget: int) -> None:
    learner = Learner(str(tiny_glm4v), LearnerConfig(tokens_per_micro_batch=budget))
    found = learner.logprobs(batch)[batch.loss_mask]
    assert np.abs(found - expected_logprobs(tiny_glm4v, groups)).max() < 1e-4


def test_prompts_that_differ_in_their_pictures_alone_are_not_taken_for_one(groups: list[Group], batch: Batch) -> None:
    assert np.array_equal(groups[0].prompt_ids, groups[1].prompt_ids)
    found = families(batch, np.arange(batch.num_sequences))
    assert [len(family.sequences) for family in found] == [G] * len(groups)


def test_each_prompt_is_processed_once_in_an_iteration(
    tiny_glm4v: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = VisionProcessor.__init__
    monkeypatch.setattr(
        VisionProcessor, "__init__", lambda self, path, **o: (loaded.append(path), load(self, path, **o))[1]
    )
    config = LearnerConfig(tokens_per_micro_batch=60, num_iterations=2, num_minibatches=2, beta=0.1)
    learner = Learner(str(tiny_glm4v), config)
    assert len(loaded) == 1, "the reference uses the policy's"
    learner.update(batch, group_sizes=[G] * 4)
    cache = cache_of(learner.model)
    assert cache is not None and cache.processor.processed == 4


def test_pictures_reach_the_vision_tower_by_the_gradient_and_frozen_parts_stay(tiny_glm4v: Path, batch: Batch) -> None:
    whole = Learner(str(tiny_glm4v), LearnerConfig())
    frozen = Learner(str(tiny_glm4v), LearnerConfig(), freeze=["vision_tower", "decoder"])
    before = {name: value.clone() for name, value in whole.model.state_dict().items()}
    for learner, still in ((whole, ()), (frozen, ("model.visual.blocks", "model.language_model", "lm_head"))):
        learner.update(batch, group_sizes=[G] * 4)
        for name, value in learner.model.state_dict().items():
            changed = not torch.equal(value, before[name])
            if still and name.startswith(still):
                assert not changed, name
            elif name.startswith(("model.visual.merger.proj", "model.visual.merger.down_proj")):
                assert changed, name
    assert not torch.equal(
        whole.model.state_dict()["model.visual.patch_embed.proj.weight"], before["model.visual.patch_embed.proj.weight"]
    )


def test_everything_frozen_is_refused(tiny_glm4v: Path) -> None:
    with pytest.raises(ConfigError, match="every part"):
        Learner(str(tiny_glm4v), LearnerConfig(), freeze=["vision_tower", "projector", "decoder"])


def test_a_model_of_text_has_no_parts_to_freeze(tiny_policy: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.freeze"):
        Learner(str(tiny_policy), LearnerConfig(), freeze=["vision_tower"])


def test_a_prompt_whose_tokens_do_not_fit_its_pictures_is_named(tiny_glm4v: Path, groups: list[Group]) -> None:
    group = groups[0]
    short = Group(group.prompt, np.delete(group.prompt_ids, 3), group.responses, media=group.media)
    with pytest.raises(DataError, match=r"15 image tokens, but its pixels take 16"):
        Learner(str(tiny_glm4v), LearnerConfig()).logprobs(make_batch([short], np.zeros(G)))


def test_a_saved_policy_keeps_its_processor(tiny_glm4v: Path, tmp_path: Path) -> None:
    Learner(str(tiny_glm4v), LearnerConfig()).save_policy(tmp_path / "policy")
    assert load_processor(str(tmp_path / "policy")).image_processor.merge_size == 2


def test_an_adapter_leaves_the_vision_tower_alone_and_merges(tiny_glm4v: Path, batch: Batch, tmp_path: Path) -> None:
    model = ModelConfig(path=str(tiny_glm4v), lora=LoRAConfig(r=4))
    config = LearnerConfig(threads=1, learning_rate=1e-2, beta=0.1)
    learner = Learner(str(tiny_glm4v), config, model=model)
    before = learner.logprobs(batch)
    for _ in range(2):
        assert learner.update(batch)["learner/grad_norm"] > 0
    np.testing.assert_allclose(learner.reference_logprobs(batch), before, atol=1e-6)
    trained = [name for name, parameter in learner.model.named_parameters() if parameter.requires_grad]
    assert trained and all("language_model" in name and "lora_" in name for name in trained)
    learner.save_policy(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "processor_config.json").is_file()
    merge(tmp_path / "adapter", tmp_path / "merged")
    merged = Learner(str(tmp_path / "merged"), LearnerConfig(threads=1))
    np.testing.assert_allclose(merged.logprobs(batch), learner.logprobs(batch), atol=3e-5)
    again = Learner(str(tmp_path / "adapter"), LearnerConfig(threads=1))
    np.testing.assert_allclose(again.logprobs(batch), learner.logprobs(batch), atol=1e-5)


@pytest.mark.parametrize(
    ("parts", "inside"),
    [
        (["vision_tower"], {"visual.blocks"}),
        (["projector"], {"visual.merger"}),
        (["vision_tower", "projector", "decoder"], {"visual.blocks", "visual.merger", "language_model"}),
    ],
)
def test_an_adapter_goes_into_the_parts_that_are_named(
    tiny_glm4v: Path, batch: Batch, tmp_path: Path, parts: list[Any], inside: set[str]
) -> None:
    model = ModelConfig(path=str(tiny_glm4v), lora=LoRAConfig(r=4, target_parts=parts))
    learner = Learner(str(tiny_glm4v), LearnerConfig(threads=1, learning_rate=1e-2), model=model)
    for _ in range(2):
        assert learner.update(batch)["learner/grad_norm"] > 0
    trained = [name for name, parameter in learner.model.named_parameters() if parameter.requires_grad]
    for place in ("visual.blocks", "visual.merger", "language_model"):
        assert any(place in name for name in trained) == (place in inside)
    learner.save_policy(tmp_path / "adapter")
    merge(tmp_path / "adapter", tmp_path / "merged")
    merged = Learner(str(tmp_path / "merged"), LearnerConfig(threads=1))
    np.testing.assert_allclose(merged.logprobs(batch), learner.logprobs(batch), atol=3e-5)
    assert choose_mode(model.lora, LoRAConfig(target_parts=parts).model_dump(), on_gpu=True) == "merged"


def test_parts_are_refused_for_a_model_of_text_and_for_engines_that_keep_adapters_apart(tiny_policy: Path) -> None:
    model = ModelConfig(path=str(tiny_policy), lora=LoRAConfig(target_parts=["decoder"]))
    with pytest.raises(ConfigError, match=r"target_parts.*sees nothing"):
        Learner(str(tiny_policy), LearnerConfig(), model=model)
    with pytest.raises(ValueError, match=r"no kernel for model\.lora\.target_parts other than decoder"):
        LoRAConfig(target_parts=["projector"], engine_mode="adapter")


def test_a_group_kept_over_a_stop_has_its_pictures_again(tiny_glm4v: Path, groups: list[Group]) -> None:
    waiting, resumed = LeftoverGroups(max_age=2), LeftoverGroups(max_age=2)
    waiting.keep(groups, np.zeros(0, np.int64), most=8)
    resumed.load_state_dict(waiting.state_dict(), [group.prompt for group in groups])
    learner = Learner(str(tiny_glm4v), LearnerConfig())
    before, after = (
        learner.logprobs(make_batch(kept.groups, np.zeros(G * len(groups)))) for kept in (waiting, resumed)
    )
    assert len(resumed) == len(groups) and np.array_equal(before, after)
