"""What all tests share: a quiet environment, a tiny policy, the command line, and the rule that true runs are run.

With RLCS_REQUIRE_E2E=1 (`make test` sets it) a session in which no test of tests/e2e passed has failed, even if they
were only skipped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything imports the libraries that read them; inherited by the processes that tests start.
os.environ.update(
    DO_NOT_TRACK="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_OFFLINE="1",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    RAY_USAGE_STATS_ENABLED="0",
    TOKENIZERS_PARALLELISM="false",
    TRANSFORMERS_VERBOSITY="error",
    VLLM_NO_USAGE_STATS="1",
    WANDB_MODE="offline",
)

from rlcs.vision.environment import prepare_process

prepare_process()

# A job in the background may start with Ctrl-C ignored, and the processes that tests start and interrupt would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long one example takes says nothing about the code; in CI the same examples are tried each time.
settings.register_profile("rlcs", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "rlcs")

ROOT = Path(__file__).resolve().parent.parent
E2E = ROOT / "tests" / "e2e"


@dataclass(frozen=True)
class CommandResult:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


RunCLI = Callable[..., CommandResult]


@pytest.fixture
def run_cli() -> RunCLI:
    """Run the command line in a process of its own: `run_cli("train", "x.yaml", cwd=..., env={...}, timeout_s=120)`.

    It runs in the repository unless `cwd` is given; `env` is added to the environment.
    """

    def run(
        *arguments: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None, timeout_s: float = 120
    ) -> CommandResult:
        result = subprocess.run(
            [sys.executable, "-m", "rlcs.cli", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return CommandResult(result.returncode, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Qwen2 policy of 0.1 M parameters (context 256) that transformers and vLLM load.

    Shared by the whole session: copy it before changing it.
    """
    from rlcs.config import TinyConfig
    from rlcs.models import build_tiny_policy

    folder = tmp_path_factory.mktemp("tiny") / "policy"
    shape = TinyConfig(
        hidden_size=64,
        num_layers=2,
        num_heads=2,
        intermediate_size=128,
        vocab_size=320,
        max_position_embeddings=256,
    )
    texts = [f"What is {a} + {b}? The answer is {a + b}." for a in range(20) for b in range(20)]
    build_tiny_policy(folder, shape, texts, seed=0)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in tests/e2e is a true run."""
    for item in items:
        if item.path.is_relative_to(E2E):
            item.add_marker("e2e")


class RequireTrueRun:
    """Fails a session in which no true run passed."""

    def __init__(self) -> None:
        self.passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the true runs that passed."""
        self.passed += report.when == "call" and report.passed and "e2e" in report.keywords

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Turn success into failure if there was none."""
        if exitstatus == pytest.ExitCode.OK and not self.passed:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say so."""
        if not self.passed:
            terminalreporter.write_line(
                "RLCS_REQUIRE_E2E: no test of tests/e2e passed, so this session failed", red=True
            )


def pytest_configure(config: pytest.Config) -> None:
    """Apply the rule where it is asked for."""
    if os.environ.get("RLCS_REQUIRE_E2E") == "1" and not config.option.collectonly:
        config.pluginmanager.register(RequireTrueRun())
