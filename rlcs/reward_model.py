"""Train a reward model on preference pairs: `rlcs reward-model CONFIG`.

TRL's RewardTrainer minimises the Bradley-Terry loss -log sigmoid(x_chosen - x_rejected) of a sequence classification
model with one label. Pairs are tokenized by `rlcs.rewards.reward_model.encode_chat`, as they will be when the model
scores answers. Beside the model its folder holds `calibration.json`, which maps logits to rewards (why: see
`rlcs.rewards.reward_model`), `config.yaml` and `summary.json`.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcs.config_loading import dump_config, load_config
from rlcs.errors import ConfigError, DataError, RewardError, first_line
from rlcs.interrupt import StopRequest
from rlcs.models import build_tiny_policy, check_model_folder
from rlcs.preference_data import PreferencePair, PreferenceSplits, load_preferences
from rlcs.progress import Display
from rlcs.reward_model_config import RewardModelRun
from rlcs.rewards.classifier import encode_chat, load_classifier, logits_of
from rlcs.rewards.reward_model import CALIBRATION_FILE
from rlcs.whole_folder import check_new_folder, staging_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LOGISTIC_TO_NORMAL = 1.702
"""sigmoid(1.702 z) is the standard normal distribution function within 0.01."""
_EVAL_BATCH = 32


@dataclass(frozen=True, slots=True)
class RewardModelSummary:
    """What a training did; `summary.json` in the model's folder."""

    folder: Path
    accuracy_before: float
    """Share of held-out pairs whose better answer has the higher logit, with a new or the loaded head."""
    accuracy_after: float
    num_train: int
    """Pairs."""
    num_eval: int
    steps: int


_Encoded = list[tuple[list[int], list[int]]]
"""Token ids of the better and the worse conversation of each pair."""


def train_reward_model(
    config_path: str | Path, overrides: Sequence[str] = (), display: Display | None = None
) -> RewardModelSummary:
    """Train the reward model of a configuration file, and print its held-out accuracy before and after.

    The folder `output_dir/name` is written whole or not at all. Ctrl-C ends the training after the current step, a
    second one at once; nothing is left behind.

    Raises:
        ConfigError: the configuration is wrong, or the folder exists already.
        DataError: the pairs or the model cannot be used.
        KeyboardInterrupt: it was interrupted.
    """
    config = load_config(config_path, overrides, RewardModelRun)
    display = display or Display()
    check_new_folder(config.folder)
    check_model_folder(config.model)
    display.stage("loading preference pairs")
    pairs = load_preferences(config.data, config.seed)
    display.note(f"{len(pairs.train):,} training pairs, {len(pairs.eval):,} held-out pairs")
    with (
        staging_folder(config.folder) as staging,
        StopRequest(lambda: display.note("stopping after this step; nothing is kept")) as stop,
    ):
        summary = _train(config, pairs, staging, display, stop)
        _stop_if_asked(stop)
        try:
            os.rename(staging / "model", config.folder)
        except OSError as error:
            raise ConfigError(
                f"{config.folder} cannot be made: {error.strerror or error}; choose another name=..."
            ) from error
    display.stage(
        f"done: held-out accuracy {_percent(summary.accuracy_before)} before, {_percent(summary.accuracy_after)} after. "
        f"Score with it: reward_model among reward.functions, and reward.model.path={config.folder}"
    )
    return summary


def _train(
    config: RewardModelRun, pairs: PreferenceSplits, staging: Path, display: Display, stop: StopRequest
) -> RewardModelSummary:
    import datasets
    import torch
    from transformers import PrinterCallback, set_seed
    from trl import RewardTrainer

    if torch.cuda.device_count() > 1:
        raise ConfigError("a reward model is trained on one GPU: set CUDA_VISIBLE_DEVICES to one of them")
    display.stage("making a tiny model" if config.model.init else f"loading {config.model.path}")
    path = _initial_model(config, pairs.train, staging / "init")
    tokenizer = _load_tokenizer(path, config)
    set_seed(config.seed)  # of the new head
    model = _load_model(path, config)
    train = _encode(pairs.train, tokenizer, config, "training", display)
    held_out = _encode(pairs.eval, tokenizer, config, "held-out", display)
    before, _ = _evaluate(model, held_out, tokenizer)
    display.note(f"held-out accuracy before training {_percent(before)}")
    _stop_if_asked(stop)
    datasets.disable_progress_bars()
    trainer = RewardTrainer(
        model=model,
        args=_trainer_arguments(config, staging / "trainer"),
        train_dataset=datasets.Dataset.from_list([{"chosen_ids": a, "rejected_ids": b} for a, b in train]),
        processing_class=tokenizer,
        callbacks=[_callback(stop, display.note)],
    )
    trainer.remove_callback(PrinterCallback)  # ours reports instead
    display.stage(f"training on {len(train):,} pairs")
    trainer.train()
    _stop_if_asked(stop)
    display.stage("evaluating")
    after, logits = _evaluate(trainer.model, held_out, tokenizer)
    if not all(map(math.isfinite, logits)):
        raise DataError("the trained model gives logits that are no finite numbers: lower train.learning_rate")
    summary = RewardModelSummary(config.folder, before, after, len(train), len(held_out), trainer.state.global_step)
    _write(staging / "model", trainer.model, tokenizer, config, logits, summary)
    return summary


def _initial_model(config: RewardModelRun, pairs: list[PreferencePair], folder: Path) -> str:
    if config.model.path is not None:
        return config.model.path
    texts = [text for pair in pairs for text in (*_texts(pair), pair.chosen, pair.rejected)]
    build_tiny_policy(folder, config.model.tiny, texts, config.seed)
    return str(folder)


def _texts(pair: PreferencePair) -> list[str]:
    return [message["content"] for message in pair.messages if isinstance(message["content"], str)]


def _load_tokenizer(path: str, config: RewardModelRun) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=config.model.trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"model.path: {path} has no tokenizer that can be loaded: {first_line(error)}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise DataError(f"model.path: the tokenizer of {path} has no padding and no end-of-sequence token; set one")
    return tokenizer


def _load_model(path: str, config: RewardModelRun) -> PreTrainedModel:
    try:
        model = load_classifier(
            path, trust_remote_code=config.model.trust_remote_code, need_head=False, dtype=config.model.dtype
        )
    except RewardError as error:
        raise DataError(str(error)) from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"model.path: {path} cannot be loaded as a reward model: {first_line(error)}") from error
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context is not None and config.train.max_length > context:
        raise ConfigError(f"train.max_length ({config.train.max_length}) is more than the model's context ({context})")
    return model


def _encode(
    pairs: list[PreferencePair], tokenizer: PreTrainedTokenizerBase, config: RewardModelRun, kind: str, display: Display
) -> _Encoded:
    """The pairs whose two conversations fit into `train.max_length`: a pair cut at the front may have lost its point."""
    limit = config.train.max_length
    encoded = []
    for pair in pairs:
        try:
            ids = [encode_chat(tokenizer, pair.messages, answer, None) for answer in (pair.chosen, pair.rejected)]
        except Exception as error:  # templates raise errors of their own kinds
            raise DataError(f"the model's chat template refuses a prompt: {first_line(error)}") from error
        if max(map(len, ids)) <= limit:
            encoded.append((ids[0], ids[1]))
    if not encoded:
        raise DataError(f"no {kind} pair fits into train.max_length ({limit} tokens): raise it")
    if len(encoded) < len(pairs):
        display.note(f"{len(pairs) - len(encoded):,} {kind} pairs are longer than {limit} tokens and left out")
    return encoded


def _evaluate(model: PreTrainedModel, pairs: _Encoded, tokenizer: PreTrainedTokenizerBase) -> tuple[float, list[float]]:
    """Share of the pairs whose better answer has the higher logit, and all logits."""
    model.eval()
    sequences = [ids for pair in pairs for ids in pair]
    logits = logits_of(model, sequences, _EVAL_BATCH, tokenizer.pad_token_id)
    return statistics.fmean(a > b for a, b in zip(logits[::2], logits[1::2], strict=True)), logits


def _trainer_arguments(config: RewardModelRun, folder: Path) -> Any:
    import torch
    from trl import RewardConfig

    train = config.train
    return RewardConfig(
        output_dir=str(folder),
        num_train_epochs=train.epochs,
        per_device_train_batch_size=train.batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        learning_rate=train.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=train.warmup_steps,
        weight_decay=train.weight_decay,
        max_length=None,  # checked before
        center_rewards_coefficient=train.center_rewards_coefficient or None,
        gradient_checkpointing=train.gradient_checkpointing,
        save_strategy="no",
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
        bf16=config.model.dtype == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
    )


def _callback(stop: StopRequest, report: Callable[[str], None]) -> Any:
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = control.should_training_stop or stop.requested

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                report(
                    f"step {state.global_step}/{state.max_steps}  loss {float(logs['loss']):.3f}  "
                    f"accuracy {float(logs.get('accuracy', math.nan)):.2f}"
                )

    return Callback()


def _write(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: RewardModelRun,
    logits: list[float],
    summary: RewardModelSummary,
) -> None:
    """An ordinary Hugging Face folder, with what RLCS adds."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # Logits that are all the same make no scale; any will do then.
    spread = statistics.pstdev(logits) or 1.0
    calibration = {"offset": statistics.fmean(logits), "scale": spread / _LOGISTIC_TO_NORMAL}
    (folder / CALIBRATION_FILE).write_text(json.dumps(calibration) + "\n")
    (folder / "config.yaml").write_text(dump_config(config))
    (folder / "summary.json").write_text(json.dumps(asdict(summary), default=str, indent=1) + "\n")


def _stop_if_asked(stop: StopRequest) -> None:
    if stop.requested:
        raise KeyboardInterrupt


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
