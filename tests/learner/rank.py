"""One data-parallel rank on a CPU, run by `test_distributed.py`: python rank.py RANK SIZE PORT FOLDER.

`FOLDER/plan.json` says what all ranks do: for each case a policy, a configuration, batches (npz), and perhaps a state to
load first. Rank 0 writes the weights afterwards, every rank its metrics and log-probabilities.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from rlcs.config import LearnerConfig, ModelConfig
from rlcs.learner import distributed
from rlcs.learner.distributed import connect
from rlcs.learner.learner import Learner
from rlcs.types import Batch
from rlcs.vision.pixels import Pixels


def main(rank: int, size: int, port: int, folder: Path) -> None:
    distributed.BUCKET_BYTES = 20_000  # several buckets even of a tiny policy
    plan = json.loads((folder / "plan.json").read_text())
    ranks = connect(rank, size, ("127.0.0.1", port), device=torch.device("cpu"), local_size=size, timeout_s=120)
    batches = {path.stem: Batch(**np.load(path)) for path in folder.glob("*.npz")}
    if (folder / "pictures").exists():  # of each sequence, those of a group are one object
        shown = {path.stem: Pixels((np.load(path),), ()) for path in (folder / "pictures").glob("*.npy")}
        owners = json.loads((folder / "pictures" / "owners.json").read_text())
        media = [shown.get(str(owner)) for owner in owners]
        batches = {name: dataclasses.replace(batch, media=media) for name, batch in batches.items()}
    for name, case in plan.items():
        options = case["options"]
        if "model" in options:
            options["model"] = ModelConfig(path=case["policy"], **options["model"])
        learner = Learner(case["policy"], LearnerConfig(**case["config"]), ranks=ranks, **options)
        if case["load"]:
            learner.load_state(Path(case["load"]))
        out = folder / name
        metrics = [
            learner.update(batches[batch], group_sizes=case["group_sizes"], rewards=np.array(case["rewards"]))
            for batch in case["batches"]
        ]
        learner.save_state(out / "state")
        learner.save_policy(out / "policy")
        weights = learner.weights()
        logprobs = learner.logprobs(batches[case["batches"][-1]])
        ranks.barrier()  # rank 0 has made the folder
        np.save(out / f"logprobs-{rank}.npy", logprobs)
        (out / f"metrics-{rank}.json").write_text(json.dumps(metrics))
        assert bool(weights) == (rank == 0)
        if weights:
            save_file(weights, out / "weights.safetensors")
    ranks.barrier()
    ranks.close()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may outlive the group, and then end a Python that winds up with SIGABRT


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
