"""The Arrow tables of an iteration: every response with its score, and every prompt that was drawn.

Shapes: R responses and M groups of an iteration, T tokens of a response.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from rlcs.run_images import frames_of, pictures_of
from rlcs.types import Group, Prompt, Response

_MOST_TEXTS = 1_000_000
"""With more training prompts than this their texts are left out of the prompts file."""


def rollouts_table(step: int, groups: Sequence[Group], kept: AbstractSet[int], token_groups: int) -> Any:
    """[R] the responses of an iteration; those of the first `token_groups` groups with their tokens.

    Groups are drawn in random order, so that the first ones are a fair sample.
    """
    import pyarrow as pa

    rows = [
        (index, group, sample, response)
        for index, group in enumerate(groups)
        for sample, response in enumerate(group.responses)
    ]
    scores = [response.reward for _, _, _, response in rows]
    videos = [
        [[{"frame": frame.digest, "seconds": seconds} for frame, seconds in frames] for frames in frames_of(group)]
        for group in groups[:token_groups]
    ]
    detailed = [response if index < token_groups else None for index, _, _, response in rows]
    observation = pa.struct({
        **{name: pa.int32() for name in ("start", "end", "text_start", "text_end")},
        "images": pa.list_(pa.string()),
    })  # fmt: skip
    columns = {
        "step": pa.array([step] * len(rows), pa.int64()),
        "prompt_id": pa.array([group.prompt.id for _, group, _, _ in rows], pa.string()),
        "domain": pa.array([group.prompt.domain for _, group, _, _ in rows], pa.string()),
        "tier": pa.array([group.prompt.tier for _, group, _, _ in rows], pa.int64()),
        "prompt": pa.array([prompt_text(group.prompt) for _, group, _, _ in rows], pa.string()),
        "answer": pa.array([group.prompt.answer for _, group, _, _ in rows], pa.string()),
        "sample": pa.array([sample for _, _, sample, _ in rows], pa.int64()),
        "response": pa.array([response.text for _, _, _, response in rows], pa.string()),
        "num_tokens": pa.array([len(response.token_ids) for _, _, _, response in rows], pa.int64()),
        "finish_reason": pa.array([str(response.finish_reason) for _, _, _, response in rows], pa.string()),
        "policy_version": pa.array([response.policy_version for _, _, _, response in rows], pa.int64()),
        "reward": pa.array([score.value if score else None for score in scores], pa.float64()),
        "correct": pa.array([score.correct if score else None for score in scores], pa.bool_()),
        "parts": pa.array([json.dumps(score.parts) if score else None for score in scores], pa.string()),
        "detail": pa.array([score.detail if score else None for score in scores], pa.string()),
        "kept": pa.array([index in kept for index, _, _, _ in rows], pa.bool_()),
        "reward_seconds": pa.array(_as_json([response.reward_seconds for _, _, _, response in rows]), pa.string()),
        "token_ids": pa.array([None if r is None else r.token_ids for r in detailed], pa.list_(pa.int32())),
        "logprobs": pa.array([None if r is None else r.logprobs for r in detailed], pa.list_(pa.float32())),
        "images": pa.array(
            [
                [picture.digest for picture in pictures_of(group)] if index < token_groups else None
                for index, group, _, _ in rows
            ],
            pa.list_(pa.string()),
        ),
        "videos": pa.array(
            [videos[index] if index < token_groups else None for index, _, _, _ in rows],
            pa.list_(pa.list_(pa.struct({"frame": pa.string(), "seconds": pa.float64()}))),
        ),
        "loss_mask": pa.array([None if r is None else r.loss_mask for r in detailed], pa.list_(pa.bool_())),
        "observations": pa.array([_observations(response) for _, _, _, response in rows], pa.list_(observation)),
    }
    return pa.table(columns)


def _observations(response: Response) -> list[dict[str, Any]] | None:
    """Where the observations of an episode stand in it, and the pictures that they show."""
    if not response.observations:
        return None
    return [
        {
            **{name: getattr(each, name) for name in ("start", "end", "text_start", "text_end")},
            "images": [image.digest for image in each.images],
        }
        for each in response.observations
    ]


def _as_json(times: Sequence[Mapping[str, float]]) -> list[str]:
    """Seconds by name as JSON, three digits each. Four times as fast as `json`, which counts at this many."""
    keys = {name: json.dumps(name) for name in {name for each in times for name in each}}
    return ["{" + ", ".join([f"{keys[name]}: {spent:.3g}" for name, spent in each.items()]) + "}" for each in times]


def draws_table(step: int, groups: Sequence[Group], kept: AbstractSet[int]) -> Any:
    """[M] the prompts drawn in an iteration."""
    import pyarrow as pa

    columns = {
        "step": pa.array([step] * len(groups), pa.int64()),
        "prompt_id": pa.array([group.prompt.id for group in groups], pa.string()),
        "domain": pa.array([group.prompt.domain for group in groups], pa.string()),
        "tier": pa.array([group.prompt.tier for group in groups], pa.int64()),
        "pass_rate": pa.array([group.pass_rate for group in groups], pa.float64()),
        "predicted_pass_rate": pa.array([group.predicted_pass_rate for group in groups], pa.float64()),
        "num_responses": pa.array([len(group.responses) for group in groups], pa.int64()),
        "degenerate": pa.array([group.is_degenerate for group in groups], pa.bool_()),
        "kept": pa.array([index in kept for index in range(len(groups))], pa.bool_()),
    }
    return pa.table(columns)


def prompts_table(prompts: Sequence[Prompt]) -> Any:
    """The Arrow table of prompts: prompt_id, domain, tier, and the beginning of the text where they are not too many."""
    import pyarrow as pa

    with_text = len(prompts) <= _MOST_TEXTS
    texts = [shortened(prompt_text(prompt)) if with_text else None for prompt in prompts]
    columns = {
        "prompt_id": pa.array([prompt.id for prompt in prompts], pa.string()),
        "domain": pa.array([prompt.domain for prompt in prompts], pa.string()).dictionary_encode(),
        "tier": pa.array([prompt.tier for prompt in prompts], pa.int8()),
        "prompt": pa.array(texts, pa.string()),
    }
    return pa.table(columns)


def prompt_text(prompt: Prompt) -> str:
    """The text of a prompt's last message."""
    content = prompt.messages[-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", f"<{part.get('type', 'part')}>") for part in content)


def shortened(text: str, length: int = 300) -> str:
    """The text on one line, cut to `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 4] + " ..."
