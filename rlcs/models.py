"""Policies on disk: making a tiny one from nothing, and checking that a folder can be trained.

A tiny policy is an ordinary Hugging Face folder: Qwen2 architecture (known to transformers and vLLM alike), random
weights, a byte-level BPE tokenizer learned from the task's own text, with every digit its own token and the six format
tokens of `rlcs.response_format` as special tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcs.config import ModelConfig, TinyConfig
from rlcs.errors import DataError
from rlcs.response_format import FORMAT_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_OF_TEXT = "<|endoftext|>"
ROLE_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer learned from `texts`, at most `vocab_size` tokens; any text can be encoded.

    Digits stay single tokens, so that arithmetic is not hidden in merges.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(Regex(r" ?[^\s\d\p{P}\p{S}]+|\s|[\p{P}\p{S}]"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [END_OF_TEXT, *ROLE_TOKENS, *FORMAT_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        # A merge must be common: rare words stay letters, which tasks about letters need.
        min_frequency=50,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[token for token in special if token != END_OF_TEXT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def build_tiny_policy(folder: Path, config: TinyConfig, texts: Iterable[str], seed: int) -> None:
    """Write a small random policy to `folder` as an ordinary Hugging Face model folder."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = build_tokenizer(texts, config.vocab_size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(
            Qwen2Config(
                # A multiple of 64 suits every kernel; the spare rows are never sampled by a trained policy.
                vocab_size=-(-len(tokenizer) // 64) * 64,
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                num_key_value_heads=config.num_heads,
                max_position_embeddings=config.max_position_embeddings,
                tie_word_embeddings=True,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=None,
            )
        )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_tokenizer(path: str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name.

    Raises:
        DataError: it has none, or it has no chat template or end-of-sequence token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"model {path}: no tokenizer could be loaded ({reason}); the folder needs tokenizer.json and "
            "tokenizer_config.json"
        ) from error
    if tokenizer.chat_template is None:
        raise DataError(f"model {path}: its tokenizer has no chat template; add chat_template.jinja to the folder")
    if tokenizer.eos_token_id is None:
        raise DataError(f"model {path}: its tokenizer has no end-of-sequence token; set eos_token in tokenizer_config.json")
    return tokenizer


def check_model_folder(config: ModelConfig) -> None:
    """Check that `model.path`, where it is a local folder, holds a model and a tokenizer.

    Raises:
        DataError: a file is missing. Names that are no local folder are taken for hub names and not checked here.
    """
    if config.path is None:
        return
    folder = Path(config.path)
    looks_local = folder.is_absolute() or config.path.startswith((".", "~")) or config.path.count("/") != 1
    if not folder.exists():
        if looks_local:
            raise DataError(f"model.path: there is no folder {config.path}")
        return
    if not (folder / "config.json").is_file():
        raise DataError(f"model.path: {config.path} has no config.json, so it is no model folder")
    if not list(folder.glob("*.safetensors")):
        raise DataError(f"model.path: {config.path} has no *.safetensors weights; convert them with save_pretrained()")
    if not (folder / "tokenizer_config.json").is_file() and not (folder / "tokenizer.json").is_file():
        raise DataError(
            f"model.path: {config.path} has no tokenizer (tokenizer.json, tokenizer_config.json); copy it there, "
            "for example with AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER)"
        )


def context_length(path: str, *, trust_remote_code: bool = False) -> int | None:
    """The longest context of a model, in tokens, or None if its config does not say."""
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    text_config = config.get_text_config()
    return getattr(text_config, "max_position_embeddings", None)
