"""The cold start: TRL's SFTTrainer on worked solutions in the response format.

GLM-4.1V-Thinking (arXiv 2507.01006, section 4.3) teaches the format before reinforcement learning, so that no format
reward is needed later. Solutions are packed: rows of `sft.max_length` tokens hold several examples, each attending to
itself only. Solutions about pictures stand each in a padded row of its own.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rlcs.adapters import base_model
from rlcs.config import ModelConfig, SFTSection
from rlcs.errors import DataError
from rlcs.learner.adapter import attach, quantization, save_adapter
from rlcs.turns import TurnTemplate
from rlcs.types import Prompt
from rlcs.vision.processing import is_vision_model, load_processor
from rlcs.vision.sft import IGNORED, LaterTurn, VisionCollator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_MOST_WORKERS = 4


@dataclass(frozen=True, slots=True)
class SFTExample:
    """A prompt and the response to learn; of a task of several turns, a whole episode."""

    prompt: Prompt
    response: str
    later: tuple[LaterTurn, ...] = ()
    """The other turns of an episode."""


@dataclass(frozen=True, slots=True)
class PackedRowsCollator:
    """Batches packed rows as [B, L], where TRL's own collator would lay them end to end in one row.

    Position ids restart with each example, which transformers turns into a block-diagonal attention mask. Rows of L
    keep attention's cost at B x L^2; one row of B x L tokens costs B times that on a CPU.
    """

    pad_token_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """[B, L] input_ids, position_ids and labels; L is the longest row."""
        longest = max(len(row["input_ids"]) for row in rows)
        input_ids = torch.full((len(rows), longest), self.pad_token_id, dtype=torch.long)
        labels = torch.full((len(rows), longest), IGNORED, dtype=torch.long)
        position_ids = torch.zeros((len(rows), longest), dtype=torch.long)
        for index, row in enumerate(rows):
            size = len(row["input_ids"])
            input_ids[index, :size] = torch.tensor(row["input_ids"])
            labels[index, :size] = torch.tensor(row["labels"])
            positions = torch.cat([torch.arange(length) for length in row["seq_lengths"]])
            position_ids[index, :size] = positions
            position_ids[index, size:] = torch.arange(longest - size)
            # The first token of an example must not be predicted from the example before it.
            starts = torch.nonzero(positions == 0).flatten()
            labels[index, starts] = IGNORED
        return {"input_ids": input_ids, "position_ids": position_ids, "labels": labels}


def tokenize_examples(
    examples: list[SFTExample], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[dict[str, list[int]]]:
    """`input_ids` and `labels` of each example, ignored where the policy does not speak; longer ones than `max_length` are
    left out.
    """
    template = TurnTemplate(tokenizer)
    rows = []
    for example in examples:
        prompt_ids = tokenizer.apply_chat_template(
            example.prompt.messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        response_ids = tokenizer.encode(example.response, add_special_tokens=False) + [tokenizer.eos_token_id]
        input_ids, labels = prompt_ids + response_ids, [IGNORED] * len(prompt_ids) + response_ids
        for turn in example.later:
            between = template.between(example.prompt.messages, turn.observation, tokenizer.eos_token_id).token_ids
            response_ids = tokenizer.encode(turn.response, add_special_tokens=False) + [tokenizer.eos_token_id]
            input_ids = input_ids + between + response_ids
            labels = labels + [IGNORED] * len(between) + response_ids
        if len(input_ids) <= max_length:
            rows.append({"input_ids": input_ids, "labels": labels})
    if len(rows) < len(examples):
        logger.warning(
            "sft: %d of %d solutions are longer than sft.max_length (%d tokens) and were left out",
            len(examples) - len(rows),
            len(examples),
            max_length,
        )
    return rows


def train_sft(
    model_path: str,
    examples: list[SFTExample],
    config: SFTSection,
    output: Path,
    *,
    seed: int,
    callbacks: list[Any],
    model: ModelConfig | None = None,
) -> float:
    """Train the policy `model_path` (folder or hub name) on `examples` and write it to `output`; returns the last training loss.

    With `model` an adapter is trained: that of the folder `model_path`, or a new one by `model.lora`.

    Raises:
        DataError: no example fits into `sft.max_length`.
    """
    import datasets
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer
    from trl.data_utils import pack_dataset

    from rlcs.models import load_tokenizer

    tokenizer = load_tokenizer(model_path)
    datasets.disable_progress_bars()
    dataset: Any
    collator: Any
    processor = load_processor(model_path) if is_vision_model(model_path) else None
    if processor is not None:
        dataset = datasets.Dataset.from_list([{"example": index} for index in range(len(examples))])
        collator = VisionCollator(
            processor, [e.prompt for e in examples], [e.response for e in examples], [e.later for e in examples]
        )
    else:
        rows = tokenize_examples(examples, tokenizer, config.max_length)
        if not rows:
            raise DataError(f"sft: no solution fits into sft.max_length ({config.max_length} tokens); raise it")
        dataset = pack_dataset(datasets.Dataset.from_list(rows), config.max_length, strategy="bfd")
        collator = PackedRowsCollator(tokenizer.pad_token_id or tokenizer.eos_token_id)
    trainer = SFTTrainer(
        model=_load(model_path, model, seed),
        args=SFTConfig(
            output_dir=str(output),
            max_steps=config.steps,
            per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=config.warmup_steps,
            weight_decay=0.01,
            adam_beta2=config.adam_beta2,
            max_length=None,
            packing=False,  # text is packed above; the collator keeps rows apart
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            gradient_checkpointing=False,
            save_strategy="no",
            logging_steps=10,
            report_to="none",
            disable_tqdm=True,
            seed=seed,
            bf16=False,
            use_cpu=not torch.cuda.is_available(),
            # Pictures are drawn, decoded and processed beside the training step.
            dataloader_num_workers=_num_workers() if processor is not None else 0,
        ),
        train_dataset=dataset,
        data_collator=collator,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)  # `callbacks` report instead
    try:
        result = trainer.train()
    except DataError as error:
        raise DataError(_own_words(error)) from error
    if model is None:
        trainer.save_model(str(output))
    else:
        save_adapter(trainer.model, base_model(model_path), output, torch.float32)
    (output / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody reads
    (processor or tokenizer).save_pretrained(output)
    return float(result.training_loss)


def _num_workers() -> int:
    """Processes that make batches; one processor is left to the training step."""
    # A worker is forked from a process that has used the tokenizer's threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return min(_MOST_WORKERS, len(os.sched_getaffinity(0)) - 1)


def _own_words(error: DataError) -> str:
    """The message of an error that a worker of the data loader raised, without the traceback that torch puts around it."""
    return re.split(r"^[\w.]+Error: ", str(error), flags=re.MULTILINE)[-1].strip()


def _load(path: str, model: ModelConfig | None, seed: int) -> Any:
    from rlcs.models import load_model

    if model is None:
        return load_model(path, dtype=torch.float32)
    base = base_model(path)
    dtype = getattr(torch, model.dtype)
    loaded = load_model(base, dtype=dtype, quantization_config=quantization(model, dtype))
    return attach(loaded, path, model.lora, seed=seed)
