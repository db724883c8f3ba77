from __future__ import annotations

from pathlib import Path

import pytest

REWARD = '''
def odd(completions, **columns):
    """An untrained policy is right now and then: where its response has an odd number of bytes."""
    return [float(len(completion[0]["content"].encode()) % 2) for completion in completions]
'''


@pytest.fixture
def odd_reward(tmp_path: Path) -> str:
    """A reward for policies that know nothing yet, as `reward.functions` names it."""
    path = tmp_path / "odd.py"
    path.write_text(REWARD)
    return f"{path}:odd"
