"""The weights of a model with an adapter merged in, layer by layer.

With a layer's weight W [out, in], A [r, in], B [out, r] and the scale s = lora_alpha / r (or lora_alpha / sqrt(r)),

    LoRA:  W' = W + s B A                                      (arXiv 2106.09685)
    DoRA:  W' = m * (W + s B A) / |W + s B A|, row by row      (arXiv 2402.09353)

Layers of `modules_to_save` come as they are. Computed in float32, returned in the type of W.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcs.adapters import PREFIX
from rlcs.errors import DataError

if TYPE_CHECKING:
    import torch

_PART = re.compile(r"^(?P<layer>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(\.weight)?$")

_OLDER_NAMES = (("model.language_model.", "model."), ("model.visual.", "visual."))


class BaseWeights(Mapping[str, "torch.Tensor"]):
    """The weights in a model's files by name, mapped into memory and read when they are asked for."""

    def __init__(self, base: str) -> None:
        """`base`: a folder, or a hub name that has been loaded before.

        Raises:
            DataError: there is no such model, or a file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            self.folder = Path(base)
            if not self.folder.is_dir():
                from huggingface_hub import snapshot_download

                self.folder = Path(snapshot_download(base, local_files_only=True))
            files = {path.name: safe_open(path, framework="pt") for path in sorted(self.folder.glob("*.safetensors"))}
        except (OSError, ValueError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0]
            raise DataError(f"the base model {base} of an adapter cannot be read ({reason})") from error
        if not files:
            raise DataError(f"the base model {base} of an adapter has no *.safetensors weights")
        self.files = {file: list(opened.keys()) for file, opened in files.items()}
        """The names in each file."""
        self._places = {name: files[file] for file, names in self.files.items() for name in names}

    def __getitem__(self, name: str) -> torch.Tensor:
        weight: torch.Tensor = self._places[name].get_tensor(name)
        return weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class MergedWeights(Mapping[str, "torch.Tensor"]):
    """The weights of `base` with an adapter merged in, each when it is asked for."""

    def __init__(
        self, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], base: Mapping[str, torch.Tensor]
    ) -> None:
        """Raises DataError if the adapter does not fit the base, or has something that is not known here."""
        self._config = config
        self._base = base
        self._layers: dict[str, dict[str, torch.Tensor]] = {}
        self._whole: dict[str, torch.Tensor] = {}
        for name, value in tensors.items():
            plain = _name_in_files(name.removeprefix(PREFIX), base)
            match = _PART.match(plain)
            if match is not None:
                self._layers.setdefault(f"{match['layer']}.weight", {})[match["part"]] = value
            elif "lora_" in plain:
                raise DataError(f"adapter: {name} cannot be merged; leave its layer out of model.lora.target_modules")
            else:
                self._whole[plain] = value
        self._touched = self._layers.keys() | self._whole.keys()
        missing = sorted(self._touched - base.keys())
        if missing:
            raise DataError(
                f"adapter: the files of the base model have no {missing[0]}, which it changes: is it an adapter of "
                "this model?"
            )

    def __getitem__(self, name: str) -> torch.Tensor:
        if name in self._layers:
            scale = scaling(self._config, name.removesuffix(".weight"))
            return _merge(self._base[name], self._layers[name], scale, bool(self._config.get("fan_in_fan_out")))
        if name in self._whole:
            base = self._base[name]
            return self._whole[name].to(base.dtype)
        return self._base[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)

    def touched_blocks(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and weight of every layer that the adapter changes, and of the layers that stand beside it.

        vLLM computes layers that stand side by side in a block as one matrix, which can only be loaded as a whole.
        """
        blocks = {_block(name) for name in self._touched}
        return ((name, self[name]) for name in self if _block(name) in blocks)


def _name_in_files(name: str, base: Mapping[str, torch.Tensor]) -> str:
    """A tensor's name with the layer as the base's files call it: some vision-language models keep older names there."""
    match = _PART.match(name)
    layer = match["layer"] if match else name.rpartition(".")[0]
    for new, old in _OLDER_NAMES:
        renamed = layer.replace(new, old, 1)
        if f"{layer}.weight" not in base and f"{renamed}.weight" in base:
            return renamed + name[len(layer) :]
    return name


def _block(name: str) -> str:
    """The module that holds the layer of a parameter, such as model.layers.0.mlp of model.layers.0.mlp.up_proj.weight."""
    return name.rpartition(".")[0].rpartition(".")[0]


def scaling(config: Mapping[str, Any], layer: str) -> float:
    """s of a layer, by peft's rules: the first pattern that its name ends with, else the common rank and alpha."""
    rank = _pattern(config.get("rank_pattern") or {}, layer, config["r"])
    alpha = _pattern(config.get("alpha_pattern") or {}, layer, config["lora_alpha"])
    return float(alpha / rank**0.5 if config.get("use_rslora") else alpha / rank)


def _pattern(patterns: Mapping[str, float], layer: str, default: float) -> float:
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", layer)), default)


def _merge(base: torch.Tensor, parts: Mapping[str, torch.Tensor], scale: float, transposed: bool) -> torch.Tensor:
    delta = (parts["lora_B"].float() @ parts["lora_A"].float()) * scale
    merged = base.float() + (delta.T if transposed else delta)
    magnitude = parts.get("lora_magnitude_vector")
    if magnitude is not None:
        axis = 0 if transposed else 1
        lengths = merged.norm(dim=axis, keepdim=True)
        merged = merged * (magnitude.float().unsqueeze(axis) / lengths)
    return merged.to(base.dtype)
