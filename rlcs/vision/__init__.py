"""Images and video: the tiny vision-language policy, and the way of pixels to the engines and the learner."""

from __future__ import annotations

from typing import Any


def sees(config: Any) -> bool:
    """Whether a model with this configuration of transformers has a vision tower."""
    return getattr(config, "vision_config", None) is not None
