"""A sequence classification model as training and scoring share it: loading, the tokens of a conversation, logits.

torch and transformers are imported when they are needed, not with the module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlcs.errors import RewardError
from rlcs.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def encode_chat(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], answer: str, max_length: int | None
) -> list[int]:
    """Token ids of a conversation with its answer, as reward models are trained and asked; cut at the front.

    Without a chat template: the messages' texts and the answer in lines of their own, and the end-of-sequence token.
    """
    flat = [{"role": message["role"], "content": _text_of(message["content"])} for message in messages]
    if tokenizer.chat_template is not None:
        chat = [*flat, {"role": "assistant", "content": answer}]
        encoded: Any = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
        ids: list[int] = list(encoded)
    else:
        ids = list(tokenizer("\n".join([*(message["content"] for message in flat), answer]))["input_ids"])
        if tokenizer.eos_token_id is not None and ids[-1:] != [tokenizer.eos_token_id]:
            ids.append(tokenizer.eos_token_id)
    return ids if max_length is None else ids[-max_length:]


def logits_of(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], batch_size: int, pad_token_id: int | None
) -> list[float]:
    """The logit of each sequence, computed in batches of like length, so that little is padding."""
    import torch

    logits = [0.0] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    pad = pad_token_id if pad_token_id is not None else (model.config.get_text_config().pad_token_id or 0)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        longest = len(sequences[batch[-1]])
        input_ids = torch.full((len(batch), longest), pad, dtype=torch.long)
        mask = torch.zeros((len(batch), longest), dtype=torch.long)
        for row, index in enumerate(batch):
            size = len(sequences[index])
            input_ids[row, :size] = torch.tensor(sequences[index])
            mask[row, :size] = 1
        with torch.inference_mode():
            output = model(input_ids=input_ids.to(model.device), attention_mask=mask.to(model.device)).logits
        for index, logit in zip(batch, output[:, 0].float().tolist(), strict=True):
            logits[index] = logit
    return logits


def load_classifier(
    path: str, *, trust_remote_code: bool = False, need_head: bool, dtype: str | None = None
) -> PreTrainedModel:
    """The sequence classification model of a folder or hub name, with one label.

    Args:
        path: where it is; with `need_head` false also a causal language model, which gets a random head.
        trust_remote_code: let the folder bring Python code of its own.
        need_head: refuse a model whose head is not in its files.
        dtype: of the weights; the model's own if None.

    Raises:
        RewardError: it has more labels than one, or no head.
    """
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging as transformers_logging

    arguments: dict[str, Any] = {} if need_head else {"num_labels": 1}
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # a report on the head, which is told below
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            path, trust_remote_code=trust_remote_code, dtype=dtype or "auto", output_loading_info=True, **arguments
        )
    finally:
        transformers_logging.set_verbosity(before)
    missing = sorted(info["missing_keys"])
    if need_head and missing:
        raise RewardError(
            f"reward.model.path: {path} is no reward model, it has no weights for {missing[0]}: "
            "train one with `rlcs reward-model`"
        )
    if model.config.num_labels != 1:
        raise RewardError(f"reward.model.path: {path} has {model.config.num_labels} labels: a reward model has one")
    loaded: PreTrainedModel = model
    return loaded


def _text_of(content: Any) -> str:
    """The text of a message's content; images and other parts are left out."""
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping)).strip()
