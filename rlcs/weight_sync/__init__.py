"""Weight sync: new weights on their way from the learner to the engines, between requests.

| file | holds |
|---|---|
| `base.py` | the interface: `WeightSync`, and what it needs of learner and engines |
| `choice.py` | which way is taken: `rollout.weight_sync`, or by placement |
| `object_store.py` | through Ray's shared memory; works everywhere, and carries LoRA adapters too |
| `transfer.py` | vLLM's weight-transfer engines: NCCL between GPUs, CUDA IPC on a shared one |
| `messages.py` | what vLLM's engines are told, as plain dictionaries |
"""

from rlcs.weight_sync.base import SyncReport, WeightSync
from rlcs.weight_sync.choice import choose_backend, vllm_backend
from rlcs.weight_sync.opening import open_weight_sync

__all__ = ["SyncReport", "WeightSync", "choose_backend", "open_weight_sync", "vllm_backend"]
