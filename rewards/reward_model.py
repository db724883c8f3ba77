"""A reward model: any sequence classification model with one label scores the answers of open-ended prompts.

It reads the conversation and the answer segment, not the thinking (GLM-4.1V-Thinking, arXiv 2507.01006, section 5), and
gives a logit x. The reward is `sigmoid((x - offset) / scale)`.

Why calibrated, and why so: a logit has neither a zero nor a unit that could be compared with the 0 and 1 of a verifier.
`rlcs reward-model` measures mean m and standard deviation s of the logits of held-out answers and writes `offset = m`,
`scale = s / 1.702` to `calibration.json` in the model's folder. As sigmoid(1.702 z) is the normal distribution function
within 0.01, the reward is about the share of those answers that this one beats: over them it is spread evenly over
[0, 1], with mean 0.5 and standard deviation 0.29, which is of the size of a verifier's at the pass rates where learning
happens (0.5 at one half, 0.3 at one tenth). So neither drowns the other where rewards are averaged or normalised over a
batch. Running statistics would do the same, but would differ between scoring actors, forget what a good answer is as the
policy gets better, and have to be kept in checkpoints; constants give the same text the same reward for ever.
A model without the file gets offset 0 and scale 1: its probability of beating an answer of logit 0 (Bradley-Terry).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcs.errors import RewardError, first_line
from rlcs.rewards.base import Columns, Reward
from rlcs.rewards.classifier import encode_chat, load_classifier, logits_of
from rlcs.rewards.extract import ExtractOptions
from rlcs.rewards.open_answer import read_open_answer
from rlcs.types import Message, Score

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CALIBRATION_FILE = "calibration.json"
"""In a reward model's folder: `{"offset": number, "scale": number > 0}`."""


class RewardModel(Reward):
    """Scores answers with a reward model, in batches of answers of like length.

    Minimum, without asking the model: a response that breaks the format, has no answer, has box markers in it, or holds
    a special token of the model's tokenizer, with which a policy could pretend that a turn has ended.

    Args:
        path: folder or hub name of the model (`reward.model.path`).
        max_length: longest conversation and answer, in tokens, or the model's context if that is shorter; longer ones
            are cut at the front.
        batch_size: answers in a forward pass.
        extract: how the parts of a response are found.
        offset, scale: of the reward; those of the model's calibration file if None.
        device: where it computes, such as cpu; a GPU where one is visible if None.
        trust_remote_code: let the folder bring Python code of its own.

    Raises:
        RewardError: no model is named, the folder is none of a sequence classification model, or an option is wrong.
    """

    name = "reward_model"

    def __init__(
        self,
        path: str | None = None,
        *,
        max_length: int = 2048,
        batch_size: int = 32,
        extract: ExtractOptions | None = None,
        offset: float | None = None,
        scale: float | None = None,
        device: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if path is None:
            raise RewardError(
                "reward 'reward_model' needs a model: set reward.model.path to a folder that `rlcs reward-model` wrote, "
                "or to the hub name of a sequence classification model with one label"
            )
        if max_length < 1 or batch_size < 1:
            raise RewardError(f"reward.model: max_length ({max_length}) and batch_size ({batch_size}) must be above 0")
        _check_folder(path)
        stored = read_calibration(path)
        self._offset = stored[0] if offset is None else offset
        self._scale = stored[1] if scale is None else scale
        if not (math.isfinite(self._offset) and math.isfinite(self._scale) and self._scale > 0):
            raise RewardError(f"reward.model: offset must be a number and scale one above 0, not {offset} and {scale}")
        self._path = path
        self._max_length = max_length
        self._batch_size = batch_size
        self._extract = extract or ExtractOptions()
        self._device = device
        self._trust_remote_code = trust_remote_code
        self._model: PreTrainedModel | None = None
        self._tokenizer: PreTrainedTokenizerBase | None = None

    def setup(self) -> None:
        """Load the model.

        Raises:
            RewardError: it cannot be loaded, or is no reward model.
        """
        if self._model is not None:
            return
        import torch
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self._path, trust_remote_code=self._trust_remote_code)
            model = load_classifier(self._path, trust_remote_code=self._trust_remote_code, need_head=True)
        except RewardError:
            raise
        except Exception as error:  # transformers raises errors of many roots for damaged folders
            reason = first_line(error)
            raise RewardError(f"reward.model.path: {self._path} cannot be loaded: {reason}") from error
        device: Any = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(device).eval()
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or self._max_length
        self._max_length = min(self._max_length, context, self._tokenizer.model_max_length)

    def close(self) -> None:
        """Let the model go."""
        self._model = self._tokenizer = None

    def score(self, completion: str, answer: str, **columns: Any) -> Score | None:
        return self.score_batch([completion], [answer], [columns])[0]

    def score_batch(
        self, completions: Sequence[str], answers: Sequence[str], columns: Sequence[Columns]
    ) -> list[Score | None]:
        """See `Reward.score_batch`. The reference answers are not read.

        Raises:
            RewardError: the model gives a logit that is no finite number.
        """
        self.setup()
        assert self._model is not None
        assert self._tokenizer is not None
        specials = [token for token in self._tokenizer.all_special_tokens if token]
        scores: list[Score | None] = [None] * len(completions)
        asked: list[tuple[int, tuple[int, ...]]] = []
        for index, (completion, row) in enumerate(zip(completions, columns, strict=True)):
            found = read_open_answer(completion, self._extract)
            problem, event = found.problem, found.event
            if not problem and any(token in found.text for token in specials):
                problem, event = "a special token in the answer", "format_special_token"
            if problem:
                self.count(event)
                scores[index] = Score(0.0, detail=problem)
                continue
            chat = encode_chat(self._tokenizer, _messages_of(row), found.text, self._max_length)
            asked.append((index, tuple(chat)))
        # Equal answers are computed once: the rounding of different batches would tell them apart, and a group of equal
        # rewards would get advantages made of nothing but that.
        distinct = list(dict.fromkeys(ids for _, ids in asked))
        logits = logits_of(self._model, distinct, self._batch_size, self._tokenizer.pad_token_id)
        logit_of = dict(zip(distinct, logits, strict=True))
        for index, ids in asked:
            logit = logit_of[ids]
            if not math.isfinite(logit):
                raise RewardError(
                    f"reward.model.path: {self._path} gives the logit {logit} for an answer; try it in float32"
                )
            scores[index] = Score(self._value(logit), detail=f"reward model: logit {logit:.3g}")
        return scores

    def _value(self, logit: float) -> float:
        z = (logit - self._offset) / self._scale
        return 1.0 / (1.0 + math.exp(-min(max(z, -700.0), 700.0)))  # exp overflows soon after


def read_calibration(path: str) -> tuple[float, float]:
    """Offset and scale of a model folder's calibration file; 0 and 1 if it has none, or is no folder.

    Raises:
        RewardError: the file is damaged.
    """
    file = Path(path) / CALIBRATION_FILE
    if not file.is_file():
        return 0.0, 1.0
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        offset, scale = float(values["offset"]), float(values["scale"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RewardError(
            f'reward.model.path: {file} must hold {{"offset": number, "scale": number}}: {error}; '
            "mend it, or remove it for offset 0 and scale 1"
        ) from error
    if not (math.isfinite(offset) and math.isfinite(scale) and scale > 0):
        raise RewardError(f"reward.model.path: {file} has offset {offset} and scale {scale}; the scale must be above 0")
    return offset, scale


def _check_folder(path: str) -> None:
    """What can be told without loading anything."""
    folder = Path(path)
    if not folder.exists():
        if folder.is_absolute() or path.startswith(".") or path.count("/") > 1:
            raise RewardError(f"reward.model.path: there is no folder {path}")
        return  # a hub name
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RewardError(f"reward.model.path: {path} is no model folder: config.json cannot be read") from error
    kinds = config.get("architectures") if isinstance(config, dict) else None
    if isinstance(kinds, list) and kinds and not any("ForSequenceClassification" in str(kind) for kind in kinds):
        raise RewardError(
            f"reward.model.path: {path} is a {kinds[0]}, no sequence classification model: "
            "train a reward model from it with `rlcs reward-model`"
        )


def _messages_of(row: Columns) -> list[Message]:
    messages = row.get("messages")
    if messages:
        return list(messages)
    question = row.get("question")
    return [{"role": "user", "content": question}] if isinstance(question, str) else []
