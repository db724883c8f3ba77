"""A folder that is written whole or not at all: made beside its place under another name, and moved there in the end."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlcs.errors import ConfigError
from rlcs.interrupt import uninterrupted


def check_new_folder(folder: Path) -> None:
    """Check that there is no such folder yet and that it can be made.

    Raises:
        ConfigError: it exists, or there is no right to make it.
    """
    try:
        if folder.exists() or folder.is_symlink():
            raise ConfigError(f"{folder} exists already: choose another folder with name=... or output_dir=...")
        parent = folder.absolute().parent
        while not parent.exists():
            parent = parent.parent
    except OSError as error:
        raise ConfigError(f"{folder} cannot be looked at: {error.strerror or error}") from error
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} cannot be made: {parent} cannot be written to; set output_dir=...")


@contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, on the same disk, so that what is made in it can be renamed to `folder` at once.

    It is removed in the end with all that is left in it, and so are parents that it needed and that are empty again.
    """
    made = [parent for parent in folder.absolute().parents if not parent.exists()]
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    try:
        staging.mkdir(parents=True)
        yield staging
    finally:
        with uninterrupted():
            shutil.rmtree(staging, ignore_errors=True)
            for parent in made:
                if parent.exists() and not any(parent.iterdir()):
                    parent.rmdir()
