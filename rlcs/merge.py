"""`rlcs merge`: an adapter and its base become one ordinary Hugging Face folder.

Weights are read, merged and written a file at a time, so that a model larger than memory can be merged.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rlcs.adapter_merging import BaseWeights, MergedWeights
from rlcs.adapters import CONFIG_FILE, WEIGHTS_FILE, base_model, is_adapter_folder, read_adapter
from rlcs.checkpoint import latest_checkpoint
from rlcs.errors import ConfigError, DataError
from rlcs.whole_folder import staging_folder


def find_adapter(source: Path) -> Path:
    """The adapter folder meant by a run (its newest checkpoint), a checkpoint, or an adapter folder.

    Raises:
        DataError: it has none.
        CheckpointError: the run has no whole checkpoint.
    """
    if not source.is_dir():
        raise DataError(f"{source}: there is no such folder; give a run, a checkpoint or an adapter folder")
    folder = source
    if (source / "config.yaml").is_file():
        folder = latest_checkpoint(source) / "policy"
    elif (source / "policy").is_dir():
        folder = source / "policy"
    if not is_adapter_folder(folder):
        whole = (folder / "config.json").is_file()
        raise DataError(
            f"{folder} is a whole model already: use it as it is"
            if whole
            else f"{folder} has no {CONFIG_FILE}, so it is no adapter folder"
        )
    return folder


def merge(source: Path, output: Path) -> Path:
    """Merge the adapter of a run, a checkpoint or a folder into its base, in the base's types; returns the adapter's folder.

    Raises:
        ConfigError: `output` exists already.
        DataError: there is no adapter, or it or its base is incomplete.
    """
    from safetensors.torch import save_file

    if output.exists() or output.is_symlink():
        raise ConfigError(f"{output} exists already: choose another folder with --output")
    adapter = find_adapter(source)
    config, tensors = read_adapter(adapter)
    base = BaseWeights(base_model(str(adapter)))
    weights = MergedWeights(config, tensors, base)
    with staging_folder(output) as staging:
        for path in base.folder.iterdir():
            if path.is_file() and path.suffix != ".safetensors":
                shutil.copyfile(path, staging / path.name)
        for path in adapter.iterdir():  # the tokenizer that was trained with, where the adapter brings one
            if path.is_file() and path.name not in (CONFIG_FILE, WEIGHTS_FILE, "README.md"):
                shutil.copyfile(path, staging / path.name)
        for file, names in base.files.items():
            merged = {name: weights[name].contiguous() for name in names}
            save_file(merged, staging / file, metadata={"format": "pt"})
        os.replace(staging, output)
    return adapter
