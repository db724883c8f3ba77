"""Which way the weights take: `rollout.weight_sync`, or by placement where it is `auto`."""

from __future__ import annotations

from rlcs.adapters import is_adapter_folder
from rlcs.config import Config
from rlcs.errors import ConfigError

_VLLM = {"cuda_ipc": "ipc", "nccl": "nccl"}


def choose_backend(config: Config) -> str:
    """`object_store`, `cuda_ipc` or `nccl`; `adapter` where the policy is a LoRA adapter, which is small.

    By placement: whole GPUs of their own for learner and engines, `nccl`; one GPU that a learner of one rank shares with
    one engine, at once or in turns, `cuda_ipc`; all else, a CPU on either side among it, `object_store`.

    Raises:
        ConfigError: the configuration asks for a way that its placement does not allow.
    """
    asked = config.rollout.weight_sync
    path = config.model.path
    if config.model.lora is not None or (path is not None and is_adapter_folder(path)):
        if asked in ("auto", "object_store"):
            return "adapter"
        raise ConfigError(
            f"rollout.weight_sync {asked} sends whole weights, and model.lora trains an adapter: set it to auto"
        )
    possible = _possible(config)
    if asked == "auto":
        return possible[0]
    if asked not in possible:
        raise ConfigError(
            f"rollout.weight_sync {asked} does not fit the placement (rollout.gpus_per_engine "
            f"{config.rollout.gpus_per_engine:g}, learner.gpus {config.learner.gpus:g}): cuda_ipc needs one GPU that one "
            f"engine and the learner share, nccl GPUs of their own; here: {' or '.join(possible)}"
        )
    return asked


def vllm_backend(backend: str) -> str | None:
    """vLLM's name of the weight-transfer engine that an engine must be started with; None where it needs none."""
    return _VLLM.get(backend)


def _possible(config: Config) -> list[str]:
    """Ways that the placement allows, the best first."""
    rollout, engine, learner = config.rollout, config.rollout.gpus_per_engine, config.learner.gpus
    if not engine or not learner:
        return ["object_store"]
    if config.cluster.placement == "colocate":
        # NCCL refuses two ranks on one GPU; memory is shared by one rank and one worker.
        one_each = rollout.num_engines == 1 and engine == 1 and config.learner.data_parallel_size == 1
        return ["cuda_ipc", "object_store"] if one_each else ["object_store"]
    if engine >= 1 and learner >= 1:
        return ["nccl", "object_store"]
    # Parts of GPUs: the same GPU for certain only where one holds both.
    if rollout.num_engines == 1 and engine + learner <= 1:
        return ["cuda_ipc", "object_store"]
    return ["object_store"]
