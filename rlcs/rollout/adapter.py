"""LoRA in an engine: the base is loaded once, and only the adapter comes at each sync.

Two ways to compute it. `adapter`: vLLM's own LoRA beside the base's products, the adapter replaced in place under one
name. `merged`: each version is merged with the base's files into the live weights, so that generation is as fast as
without an adapter; on a CPU vLLM's LoRA takes three to five times as long (benchmarks/RESULTS.md).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from rlcs.adapter_merging import BaseWeights, MergedWeights
from rlcs.adapters import is_adapter_folder, read_adapter, read_adapter_config, unpack_adapter, write_adapter
from rlcs.config import ModelConfig
from rlcs.config_lora import LoRAConfig
from rlcs.weights import to_tensors

if TYPE_CHECKING:
    import torch
    from vllm.lora.request import LoRARequest

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The largest ranks that vLLM can be started with."""
_SHARED_MEMORY = Path("/dev/shm")  # nosec B108 # noqa: S108 -- a folder of a random name is made there

Mode = Literal["adapter", "merged"]


class EngineAdapter:
    """The adapter of one engine: how the engine is started, and how a version is put in place."""

    def __init__(self, path: str, base: str, model: ModelConfig, *, on_gpu: bool) -> None:
        """`path`: the policy, an adapter folder or, where a run begins without one, the base itself."""
        self._path, self._base = path, base
        shape = _shape(path, model.lora)
        self.mode: Mode = choose_mode(model.lora, shape, on_gpu=on_gpu)
        self._rank = next((rank for rank in _RANKS if rank >= int(shape["r"])), _RANKS[-1])
        self._quantized = model.load_in_4bit
        self.request: LoRARequest | None = None
        """What goes with each prompt; None where there is nothing to add."""

    def options(self) -> dict[str, Any]:
        """Arguments of `vllm.LLM`."""
        options: dict[str, Any] = {"quantization": "bitsandbytes"} if self._quantized else {}
        if self.mode == "adapter":
            options |= {"enable_lora": True, "max_lora_rank": self._rank, "max_loras": 1}
        return options

    def load_initial(self, llm: Any) -> None:
        """Put the adapter of the policy's folder in place, if it is one."""
        if is_adapter_folder(self._path):
            config, tensors = read_adapter(self._path)
            self._put(llm, config, tensors)

    def load(self, llm: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Put a packed adapter (`rlcs.adapters`) in place."""
        config, values = unpack_adapter(arrays)
        self._put(llm, config, to_tensors(values))

    def _put(self, llm: Any, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        if self.mode == "merged":
            weights = MergedWeights(config, tensors, BaseWeights(self._base)).touched_blocks()
            llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
            return
        from vllm.lora.request import LoRARequest

        # vLLM takes adapters from files only, and has read them when `add_lora` returns. The workers of a tensor-parallel
        # engine share this machine's memory.
        memory = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
        with tempfile.TemporaryDirectory(prefix="rlcs-adapter-", dir=memory) as folder:
            write_adapter(Path(folder), config, tensors)
            llm.llm_engine.add_lora(LoRARequest("policy", 1, folder, load_inplace=True))
        self.request = LoRARequest("policy", 1, folder)


def choose_mode(lora: LoRAConfig | None, shape: Mapping[str, Any], *, on_gpu: bool) -> Mode:
    """How an engine computes an adapter of the given configuration (`adapter_config.json`)."""
    asked = lora.engine_mode if lora is not None else "auto"
    if asked != "auto":
        return asked
    has_kernel = not shape.get("use_dora") and not shape.get("modules_to_save") and not reaches_vision(lora, shape)
    return "adapter" if on_gpu and has_kernel else "merged"


def reaches_vision(lora: LoRAConfig | None, shape: Mapping[str, Any]) -> bool:
    """Whether an adapter has layers in a vision tower or projector, as far as its configuration tells."""
    if lora is not None and lora.reaches_vision:
        return True
    named = shape.get("target_modules")
    return any("visual." in name for name in ([named] if isinstance(named, str) else named or ()))


def _shape(path: str, lora: LoRAConfig | None) -> dict[str, Any]:
    if is_adapter_folder(path):
        return read_adapter_config(path)
    assert lora is not None
    return lora.model_dump()
