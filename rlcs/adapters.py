"""LoRA adapters as files and on their way to the engines.

An adapter folder is peft's: `adapter_config.json`, which names the base model, and `adapter_model.safetensors`. A policy
that trains an adapter sends its engines the same two things in one dictionary of arrays: the tensors under peft's names,
and the configuration as UTF-8 bytes under `adapter_config.json`. What is sent so speaks for itself, whatever carries it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlcs.errors import DataError
from rlcs.json_text import parse_json

if TYPE_CHECKING:
    import torch

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Begins the name of every tensor of an adapter."""


def is_adapter_folder(path: str | Path) -> bool:
    """Whether a folder holds an adapter instead of a whole model."""
    return (Path(path) / CONFIG_FILE).is_file() and not (Path(path) / "config.json").is_file()


def read_adapter_config(folder: str | Path) -> dict[str, Any]:
    """The configuration of a LoRA adapter.

    Raises:
        DataError: it cannot be read, or is of another kind of adapter.
    """
    path = Path(folder) / CONFIG_FILE
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"model {folder}: {CONFIG_FILE} cannot be read ({error})") from error
    if not isinstance(content, dict) or content.get("peft_type") != "LORA" or not isinstance(content.get("r"), int):
        raise DataError(f"model {folder}: {CONFIG_FILE} is not that of a LoRA adapter, the only kind supported")
    return content


def base_model(path: str) -> str:
    """The folder or hub name of the model below an adapter folder; `path` itself where it is a whole model.

    A base that was made by a run is found beside its checkpoints again after the run's folder was moved.

    Raises:
        DataError: the adapter's configuration cannot be read, or it does not say which model it belongs to.
    """
    if not is_adapter_folder(path):
        return path
    base = read_adapter_config(path).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise DataError(
            f"model {path}: {CONFIG_FILE} has no base_model_name_or_path; write down the base's folder there"
        )
    if not Path(base).exists() and Path(base).is_absolute():
        for parent in Path(path).absolute().parents[:3]:
            if (parent / Path(base).name / "config.json").is_file():
                return str(parent / Path(base).name)
    return base


def pack_adapter(config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An adapter as one dictionary of tensors, for the way to the engines."""
    import torch

    content = np.frombuffer(json.dumps(config, sort_keys=True).encode(), np.uint8).copy()
    return {**tensors, CONFIG_FILE: torch.from_numpy(content)}


def is_packed_adapter(arrays: Mapping[str, Any]) -> bool:
    """Whether arrays on their way to the engines are those of an adapter, and not of a whole model."""
    return CONFIG_FILE in arrays


def unpack_adapter(arrays: Mapping[str, NDArray[Any]]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Configuration and arrays of what `pack_adapter` packed."""
    config = json.loads(np.asarray(arrays[CONFIG_FILE]).tobytes())
    return config, {name: value for name, value in arrays.items() if name != CONFIG_FILE}


def write_adapter(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write an adapter folder, which peft, transformers and vLLM load as it is."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in tensors.items()}, folder / WEIGHTS_FILE, metadata={"format": "pt"}
    )
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_adapter(folder: str | Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Configuration and tensors of an adapter folder.

    Raises:
        DataError: a file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_adapter_config(folder)
    try:
        return config, load_file(Path(folder) / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise DataError(f"model {folder}: {WEIGHTS_FILE} cannot be read ({error})") from error
