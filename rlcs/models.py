"""Policies on disk: making a tiny one from nothing, and checking that a folder can be trained.

A tiny policy is an ordinary Hugging Face folder: Qwen2 architecture (known to transformers and vLLM alike), random
weights, a byte-level BPE tokenizer learned from the task's own text, with every digit its own token and the six format
tokens of `rlcs.response_format` as special tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcs.adapters import WEIGHTS_FILE, base_model, is_adapter_folder, read_adapter_config
from rlcs.config import ModelConfig, TinyConfig
from rlcs.errors import DataError, first_line
from rlcs.json_text import parse_json
from rlcs.response_format import FORMAT_TOKENS
from rlcs.vision import sees

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_OF_TEXT = "<|endoftext|>"
ROLE_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>")

_VOCABULARY_FILES = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "*.tiktoken", "*.spm", "*.bpe.model",
    "spiece.model",
)  # fmt: skip
"""A tokenizer's folder has one of these."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


_SHAPE = ("r", "lora_alpha", "use_rslora", "use_dora")
"""Settings of model.lora that an adapter's folder has as well."""


def build_tokenizer(
    texts: Iterable[str], vocab_size: int, more_special: Sequence[str] = (), chat_template: str = CHAT_TEMPLATE
) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer learned from `texts`, at most `vocab_size` tokens; any text can be encoded.

    Digits stay single tokens, so that arithmetic is not hidden in merges. `more_special`: further special tokens.
    Loaded from a policy's folder it is a tokenizer of the policy's class: Qwen2's puts text into normal form C.
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
    special = [END_OF_TEXT, *ROLE_TOKENS, *FORMAT_TOKENS, *more_special]
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
        chat_template=chat_template,
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
                initializer_range=config.initializer_range,
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

    if is_adapter_folder(path) and not _has_vocabulary(Path(path)):
        path = base_model(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"model {path}: no tokenizer could be loaded ({reason}); the folder needs tokenizer.json and "
            "tokenizer_config.json"
        ) from error
    # Without its vocabulary file transformers makes an empty tokenizer of the model's class and says nothing.
    if not tokenizer.encode("hello 12", add_special_tokens=False):
        raise DataError(f"model {path}: its tokenizer has no vocabulary; the folder needs tokenizer.json")
    if tokenizer.chat_template is None:
        raise DataError(f"model {path}: its tokenizer has no chat template; add chat_template.jinja to the folder")
    if tokenizer.eos_token_id is None:
        raise DataError(
            f"model {path}: its tokenizer has no end-of-sequence token; set eos_token in tokenizer_config.json"
        )
    return tokenizer


def load_model(path: str, **options: Any) -> Any:
    """The language model of a folder or hub name, or its vision-language model, by transformers; `options` are its own."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(path, trust_remote_code=options.get("trust_remote_code", False))
    if not sees(config):
        return AutoModelForCausalLM.from_pretrained(path, **options)
    from rlcs.vision.environment import prepare_process

    prepare_process()
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(path, **options)


def load_text_side(path: str, *, trust_remote_code: bool = False) -> Any:
    """What makes tokens for the model of a folder: its tokenizer, or the processor of a vision-language model."""
    from transformers import AutoTokenizer

    from rlcs.vision.processing import is_vision_model, load_processor

    if is_adapter_folder(path) and not _has_vocabulary(Path(path)):
        path = base_model(path)
    if is_vision_model(path, trust_remote_code=trust_remote_code):
        return load_processor(path, trust_remote_code=trust_remote_code)
    return AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)


def check_model_folder(config: ModelConfig) -> None:
    """Check that `model.path` is a folder with a whole model and a tokenizer, or a model that the hub gives.

    Reads headers only, and of the hub the model's config.json.

    Raises:
        DataError: there is no such folder or hub model, or a file is missing or damaged.
    """
    if config.path is None:
        return
    folder = Path(config.path)
    if not folder.exists():
        _check_hub_model(config.path)
        return
    if is_adapter_folder(folder):
        _check_adapter(folder, config)
        return
    if not (folder / "config.json").is_file():
        raise DataError(f"model.path: {folder} has no config.json, so it is no model folder")
    read_model_json(folder / "config.json")
    _check_weights(folder)
    if not _has_vocabulary(folder):
        raise DataError(
            f"model.path: {folder} has no tokenizer (tokenizer.json, tokenizer_config.json); copy it there, "
            "for example with AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER)"
        )


def _has_vocabulary(folder: Path) -> bool:
    return any(True for pattern in _VOCABULARY_FILES for _ in folder.glob(pattern))


def _check_adapter(folder: Path, config: ModelConfig) -> None:
    """The adapter is whole, so is its base, and `model.lora` does not ask for another one."""
    from safetensors import SafetensorError, safe_open

    try:
        stated = read_adapter_config(folder)
        base = base_model(str(folder))
    except DataError as error:
        raise DataError(f"model.path: {str(error).removeprefix('model ')}") from error
    try:
        with safe_open(folder / WEIGHTS_FILE, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"model.path: {folder / WEIGHTS_FILE} is missing or damaged ({error}); fetch it again"
        ) from error
    given = config.lora.model_dump(include=set(_SHAPE), exclude_unset=True) if config.lora is not None else {}
    for name, asked in given.items():
        if asked != stated.get(name):
            raise DataError(
                f"model.path: the adapter in {folder} has {name} {stated.get(name)}, but model.lora.{name} is {asked}: "
                "leave the setting out to go on with the adapter, or merge it with `rlcs merge` and begin another"
            )
    if base == str(folder) or is_adapter_folder(base):
        raise DataError(
            f"model.path: the base of the adapter in {folder} is an adapter itself; merge that with `rlcs merge`"
        )
    try:
        check_model_folder(config.model_copy(update={"path": base, "lora": None}))
    except DataError as error:
        reason = str(error).removeprefix("model.path: ")
        raise DataError(f"model.path: {folder} is an adapter, and of its base model: {reason}") from error


def _check_hub_model(name: str) -> None:
    if Path(name).is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise DataError(f"model.path: there is no folder {name}")
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(name, "config.json")
    except Exception as error:  # the hub's client raises errors of many roots: names, networks, rights
        reason = first_line(error)
        raise DataError(f"model.path: there is no folder {name}, and no hub model can be had: {reason}") from error


def _check_weights(folder: Path) -> None:
    """All shards are there, and none is cut off."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map = read_model_json(index).get("weight_map")
        shards = sorted({str(shard) for shard in weight_map.values()}) if isinstance(weight_map, dict) else []
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise DataError(
                f"model.path: {folder} lacks {len(missing)} of {len(shards)} weight files, first {missing[0]}"
            )
    if not files:
        raise DataError(f"model.path: {folder} has no *.safetensors weights; convert them with save_pretrained()")
    for file in files:
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise DataError(f"model.path: {file} is damaged or cut off ({error}); fetch it again") from error


def read_model_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file of a model's folder.

    Raises:
        DataError: it cannot be read, or is something else.
    """
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"model.path: {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"model.path: {path} holds no JSON object")
    return content


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a model's config.json that is about its language model: all of it, but for models that see."""
    text = config.get("text_config")
    return text if isinstance(text, dict) else config


def context_length(path: str, *, trust_remote_code: bool = False) -> int | None:
    """The longest context of a model, in tokens, or None if its config does not say."""
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(base_model(path), trust_remote_code=trust_remote_code)
    text_config = config.get_text_config()
    return getattr(text_config, "max_position_embeddings", None)
