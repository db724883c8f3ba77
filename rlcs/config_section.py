"""The base of every part of the configuration."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values are not changed after loading."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        ser_json_inf_nan="constants",  # in values of any type, such as the parameters of a task
    )


def refuse_password(address: str | None, name: str, advice: str) -> None:
    """Raise ValueError where the address of setting `name` holds a password: run folders, logs and reports show settings."""
    if address is not None and "@" in urlsplit(address).netloc:
        raise ValueError(
            f"{name} holds a user name or password, which would be written into the run's folder: {advice}"
        )
