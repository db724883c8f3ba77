"""Leftover groups of a run: the rule of `rlcs.curricula.leftovers` on real groups, and how they survive a stop.

With `curriculum.leftover_age` 0 nothing is ever kept. A group's `policy_version` tells which policy sampled it; what the
present one makes of its tokens is the learner's importance weight (`learner.importance_sampling_correction`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.curricula.leftovers import groups_wanted, leftovers
from rlcs.errors import CheckpointError
from rlcs.types import FinishReason, Group, Observation, Prompt, Response, Score
from rlcs.vision.pixels import pixels_of


class LeftoverGroups:
    """Groups that wait for an update, older ones first."""

    def __init__(self, max_age: int) -> None:
        """`max_age`: updates after which a group is dropped."""
        self._max_age = max_age
        self.groups: list[Group] = []
        self.ages: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        """[L] updates since each was generated, 1 or more."""

    def __len__(self) -> int:
        """L."""
        return len(self.groups)

    def wanted(self, batch_size: int) -> int:
        """How many new groups to learn from the coming iteration aims at."""
        return groups_wanted(batch_size, len(self))

    def keep(self, new: Sequence[Group], learned: NDArray[np.int64], most: int) -> None:
        """After an update that could choose from these groups and then `new`, and took the indices `learned`."""
        groups = [*self.groups, *new]
        ages = np.concatenate([self.ages, np.zeros(len(new), dtype=np.int64)])
        kept = leftovers(
            np.asarray([group.pass_rate for group in groups]),
            np.asarray([group.is_degenerate for group in groups], dtype=bool),
            ages,
            learned,
            max_age=self._max_age,
            most=most,
        )
        self.groups, self.ages = [groups[index] for index in kept], ages[kept] + 1

    def state_dict(self) -> dict[str, Any]:
        """Arrays and JSON that `load_state_dict` takes; without episodes with pictures, which nobody could draw again."""
        kept = [index for index, group in enumerate(self.groups) if not any(r.media for r in group.responses)]
        if len(kept) < len(self.groups):
            return self._of([self.groups[index] for index in kept], self.ages[kept])
        return self._of(self.groups, self.ages)

    def _of(self, groups: list[Group], ages: NDArray[np.int64]) -> dict[str, Any]:
        responses = [response for group in groups for response in group.responses]
        return {
            "ages": ages,
            **_packed("prompt", [group.prompt_ids for group in groups], np.int32),
            **_packed("token", [response.token_ids for response in responses], np.int32),
            "logprobs": _joined([response.logprobs for response in responses], np.float32),
            "loss_mask": _joined([response.loss_mask for response in responses], np.bool_),
            "groups": [
                {
                    "prompt": group.prompt.id,
                    "predicted_pass_rate": group.predicted_pass_rate,
                    "responses": [
                        {
                            "text": response.text,
                            "finish_reason": str(response.finish_reason),
                            "policy_version": response.policy_version,
                            "reward": response.reward and asdict(response.reward),
                            "observations": [asdict(each) for each in response.observations],
                            "episode": response.episode and asdict(response.episode),
                        }
                        for response in group.responses
                    ],
                }
                for group in groups
            ],
        }

    def load_state_dict(self, state: dict[str, Any], prompts: Iterable[Prompt]) -> None:
        """Go on from a saved state; `prompts` are the run's.

        Raises:
            CheckpointError: the data lacks a prompt.
        """
        wanted = {group["prompt"] for group in state["groups"]}
        by_id = {prompt.id: prompt for prompt in prompts if prompt.id in wanted}
        if len(by_id) < len(wanted):
            raise CheckpointError(
                f"the saved run keeps a group of prompt {min(wanted - by_id.keys())}, which the data lacks: resume with "
                "the run's own data"
            )
        prompt_ids = iter(_unpacked("prompt", state["prompt_tokens"], state))
        tokens, logprobs, masks = (
            iter(_unpacked("token", state[name], state)) for name in ("token_tokens", "logprobs", "loss_mask")
        )
        self.groups = [
            Group(
                by_id[group["prompt"]],
                next(prompt_ids),
                [
                    Response(
                        next(tokens),
                        next(logprobs),
                        next(masks),
                        saved["text"],
                        FinishReason(saved["finish_reason"]),
                        saved["policy_version"],
                        _score(saved["reward"]),
                        observations=tuple(
                            Observation(**{**one, "images": ()}) for one in saved.get("observations", [])
                        ),
                        episode=_score(saved.get("episode")),
                    )
                    for saved in group["responses"]
                ],
                group["predicted_pass_rate"],
                pixels_of(by_id[group["prompt"]]),
            )
            for group in state["groups"]
        ]
        self.ages = np.asarray(state["ages"], dtype=np.int64)


def _score(saved: dict[str, Any] | None) -> Score | None:
    return None if saved is None else Score(**saved)


def _joined(arrays: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    joined: NDArray[Any] = np.concatenate([np.zeros(0, dtype=dtype), *arrays])
    return joined.astype(dtype)


def _packed(name: str, arrays: Sequence[NDArray[Any]], dtype: Any) -> dict[str, NDArray[Any]]:
    lengths = np.asarray([len(array) for array in arrays], dtype=np.int64)
    return {f"{name}_tokens": _joined(arrays, dtype), f"{name}_lengths": lengths}


def _unpacked(name: str, joined: NDArray[Any], state: dict[str, Any]) -> list[NDArray[Any]]:
    ends = np.cumsum(state[f"{name}_lengths"]).tolist()
    return [joined[start:end] for start, end in zip([0, *ends], ends, strict=False)]
