"""TRL's GRPOTrainer with our curricula, in true steps of a tiny policy on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

from rlcs.config import CurriculumConfig
from rlcs.curricula.base import Observation
from rlcs.curricula.uniform import Uniform
from rlcs.errors import CheckpointError, ConfigError, DataError, RewardError
from rlcs.integrations.trl import CurriculumGRPOTrainer, prompt_table
from rlcs.models import load_tokenizer

N = 12
ROWS = {
    "prompt": [f"What is {i} + 1?" for i in range(N)],
    "row": list(range(N)),
    "tier": [None, 0, 1, 2, 3, 4] * 2,
    "domain": ["sums"] * 6 + ["words"] * 6,
}


class Recorded(Uniform):
    """Uniform sampling that keeps what it drew and what it was told."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.draws: list[list[int]] = []
        self.told: list[Observation] = []

    def draw(self, n: int) -> NDArray[np.int64]:
        rows = super().draw(n)
        self.draws.append(rows.tolist())
        return rows

    def observe(self, observation: Observation) -> None:
        self.told.append(observation)
        super().observe(observation)


class Reward:
    """Right where the completion has an odd number of bytes; keeps the rows and values that it saw, in order."""

    __name__ = "odd"

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def __call__(self, completions: list[str], row: list[int], **columns: Any) -> list[float]:
        values = [float(len(text.encode()) % 2) for text in completions]
        self.seen += zip(row, values, strict=True)
        return values


Make = Callable[..., Any]


@pytest.fixture
def make(tiny_policy: Path, tmp_path: Path) -> Make:
    """A trainer on the tiny policy: `make(reward, dataset=..., cls=..., args={...}, curriculum=...)`."""
    torch.set_num_threads(1)

    def trainer(
        reward: Any,
        *,
        dataset: Dataset | None = None,
        cls: type[GRPOTrainer] = CurriculumGRPOTrainer,
        args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        settings: dict[str, Any] = {
            "output_dir": str(tmp_path / "out"),
            "use_cpu": True,
            "bf16": False,
            "report_to": "none",
            "gradient_checkpointing": False,
            "per_device_train_batch_size": 4,
            "num_generations": 4,
            "steps_per_generation": 2,
            "gradient_accumulation_steps": 2,
            "max_completion_length": 6,
            "learning_rate": 1e-3,
            "max_steps": 3,
            "logging_steps": 1,
            "save_strategy": "no",
            "disable_tqdm": True,
        }
        return cls(
            model=AutoModelForCausalLM.from_pretrained(tiny_policy, dtype=torch.float32),
            reward_funcs=reward,
            args=GRPOConfig(**{**settings, **(args or {})}),
            train_dataset=Dataset.from_dict(ROWS) if dataset is None else dataset,
            processing_class=load_tokenizer(str(tiny_policy)),
            **kwargs,
        )

    return trainer


def pass_rates(seen: list[tuple[int, float]], size: int) -> list[tuple[list[int], list[float]]]:
    """The rows and pass rates of each group, `size` groups of 4 a generation."""
    found = []
    for start in range(0, len(seen), 4 * size):
        groups = [seen[i : i + 4] for i in range(start, start + 4 * size, 4)]
        assert all(len({row for row, _ in group}) == 1 for group in groups), "responses of a prompt stand side by side"
        found.append(([group[0][0] for group in groups], [sum(value for _, value in group) / 4 for group in groups]))
    return found


@pytest.mark.parametrize(
    ("args", "size", "generations"),
    [
        ({}, 2, 3),
        ({"shuffle_dataset": False, "num_iterations": 2, "max_steps": 4}, 2, 2),
        (
            {"steps_per_generation": 4, "gradient_accumulation_steps": 1, "max_steps": 5, "dataloader_num_workers": 1},
            4,
            2,
        ),
    ],
    ids=["accumulation", "iterations", "steps_per_generation"],
)
def test_what_is_drawn_is_generated_from_and_its_pass_rates_arrive(
    make: Make, args: dict[str, Any], size: int, generations: int
) -> None:
    reward = Reward()
    trainer = make(reward, args=args, curriculum=Recorded)
    trainer.train()
    curriculum = trainer.curriculum
    scored = pass_rates(reward.seen, size)
    assert len(scored) == generations
    assert curriculum.draws == [rows for rows, _ in scored]
    assert [told.rows.tolist() for told in curriculum.told] == curriculum.draws
    for told, (_, expected) in zip(curriculum.told, scored, strict=True):
        assert told.pass_rates.tolist() == expected
        assert told.degenerate.tolist() == [rate in (0, 1) for rate in expected]
        assert told.counts.tolist() == [4] * size
    assert any(0 < rate < 1 for _, expected in scored for rate in expected), "some groups are mixed"


@pytest.mark.parametrize("columns", [("tier", "domain"), ()], ids=["graded", "plain"])
def test_a_built_in_curriculum_by_name_learns_and_logs(make: Make, columns: tuple[str, ...]) -> None:
    reward = Reward()
    data = Dataset.from_dict({name: ROWS[name] for name in ("prompt", "row", *columns)})
    trainer = make(reward, dataset=data, curriculum="posterior", curriculum_options={"exploration": 0.5})
    trainer.train()
    times = np.bincount([row for row, _ in reward.seen], minlength=N) // 4
    assert trainer.curriculum.state.times.tolist() == times.tolist()
    assert trainer.curriculum.config.exploration == 0.5 and not trainer.curriculum.config.expansion
    logged = [entry for entry in trainer.state.log_history if "curriculum/brier" in entry]
    assert len(logged) == 3
    assert logged[-1]["curriculum/rolled_out"] == pytest.approx((times > 0).mean())
    assert trainer.curriculum.table.domain_names == (["sums", "words"] if columns else ["default"])


def test_with_the_same_prompts_losses_are_those_of_trl(make: Make, tmp_path: Path) -> None:
    ours = make(Reward(), curriculum=Recorded)
    ours.train()
    rows = [row for draw in ours.curriculum.draws for row in draw]
    order = rows + [row for row in range(N) if row not in rows]
    plain = make(
        Reward(),
        cls=GRPOTrainer,
        dataset=Dataset.from_dict(ROWS).select(order),
        args={"shuffle_dataset": False, "output_dir": str(tmp_path / "plain")},
    )
    plain.train()
    for one, two in zip(ours.state.log_history, plain.state.log_history, strict=True):
        for name in two.keys() - {"step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second"}:
            assert one[name] == two[name], name
    for one, two in zip(ours.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("stop", [2, 3], ids=["between_generations", "within_one"])
def test_a_resumed_run_draws_what_an_unbroken_one_draws(make: Make, tmp_path: Path, stop: int) -> None:
    args = {"num_iterations": 2, "max_steps": 6, "save_strategy": "steps", "save_steps": stop}
    whole_reward, reward = Reward(), Reward()
    whole = make(whole_reward, args=args, curriculum="posterior")
    whole.train()
    resumed = make(reward, args=args, curriculum="posterior")
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{stop}"))
    unbroken = [rows for rows, _ in pass_rates(whole_reward.seen, 2)]
    assert len(unbroken) == 3
    if stop == 2:
        assert reward.seen == whole_reward.seen[8:], "responses are the same too"
    # Within a generation TRL asks again, by a later policy, for responses to the prompts that were under way.
    assert [rows for rows, _ in pass_rates(reward.seen, 2)] == unbroken[1:]
    assert resumed.curriculum.state.times.sum() == 6


def test_a_checkpoint_of_another_trainer_or_batch_is_refused(make: Make, tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    make(Reward(), cls=GRPOTrainer, args={**saving, "output_dir": str(tmp_path / "plain")}).train()
    with pytest.raises(CheckpointError, match="holds no curriculum"):
        make(Reward()).train(resume_from_checkpoint=str(tmp_path / "plain" / "checkpoint-1"))
    make(Reward(), args=saving).train()
    other = make(Reward(), args={"per_device_train_batch_size": 8})
    with pytest.raises(CheckpointError, match="saved with 2 prompts a generation, now there are 4"):
        other.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))


def constant(completions: list[str], **columns: Any) -> list[float]:
    """A reward that says nothing of right and wrong."""
    return [-1.0] * len(completions)


def test_pass_rates_come_from_the_reward_that_is_named(make: Make) -> None:
    reward = Reward()
    trainer = make([constant, reward], curriculum=Recorded, pass_reward="odd", args={"max_steps": 1})
    trainer.train()
    assert trainer.curriculum.told[0].pass_rates.tolist() == pass_rates(reward.seen, 2)[0][1]


def test_pass_rates_come_from_a_threshold_and_unscored_responses_do_not_count(make: Make) -> None:
    calls = defaultdict(list)

    def signed(completions: list[str], row: list[int], **columns: Any) -> list[float | None]:
        values = [None if i % 4 == 3 or i < 4 else 2.0 * (i % 2) - 0.5 for i in range(len(completions))]
        calls["rows"] += row
        return values

    trainer = make(signed, curriculum=Recorded, pass_threshold=0.0, args={"max_steps": 1})
    trainer.train()
    (told,) = trainer.curriculum.told
    assert told.rows.tolist() == calls["rows"][4:5]
    assert told.pass_rates.tolist() == [pytest.approx(1 / 3)] and told.counts.tolist() == [3]


def test_rewards_that_are_no_pass_rates_are_refused(make: Make) -> None:
    with pytest.raises(RewardError, match=r"weighted mean .* is -1, .* give pass_threshold"):
        make(constant, args={"max_steps": 1}).train()


def test_bad_arguments_are_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match="curriculum_options: explorations is no setting; did you mean exploration"):
        make(Reward(), curriculum_options={"explorations": 0.1})
    with pytest.raises(ConfigError, match="no reward function is called 'od'; did you mean 'odd'"):
        make(Reward(), pass_reward="od")
    with pytest.raises(ConfigError, match="posteriors"):
        make(Reward(), curriculum=CurriculumConfig(kind="posteriors"))
    with pytest.raises(DataError, match="must not be streamed"):
        make(Reward(), dataset=Dataset.from_dict(ROWS).to_iterable_dataset())


def test_a_wrong_tier_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match=r"row 1: level must be 0 \(very easy\) to 4"):
        prompt_table(Dataset.from_dict({"prompt": ["a", "b"], "level": [1, 7]}), tier_column="level")


TWO_PROCESSES = """
import json
import os
import socket
import sys
from pathlib import Path
import torch
import torch.multiprocessing
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import GRPOConfig
from rlcs.integrations.trl import CurriculumGRPOTrainer
from rlcs.models import load_tokenizer

def train(policy, out, checkpoint=None):
    seen = []

    def reward(completions, row, **columns):
        values = [float(len(text.encode()) % 2) for text in completions]
        seen.extend(zip(row, values))
        return values

    trainer = CurriculumGRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=out, use_cpu=True, bf16=False, report_to="none", gradient_checkpointing=False, disable_tqdm=True,
            per_device_train_batch_size=6, num_generations=4, max_completion_length=4, max_steps=2, save_steps=1,
        ),
        train_dataset=Dataset.from_dict({"prompt": [f"What is {i}?" for i in range(9)], "row": list(range(9))}),
        processing_class=load_tokenizer(policy),
        curriculum="posterior",
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    return seen, trainer.curriculum and trainer.curriculum.state.times.tolist()

def work(rank, policy, out):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    seen, times = train(policy, out)
    again, _ = train(policy, out, str(Path(out, "checkpoint-1")))
    Path(out, f"rank-{rank}.json").write_text(json.dumps([seen, times, again]))

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
os.environ.update(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
# Forked: the imports above take most of the time.
torch.multiprocessing.start_processes(work, args=tuple(sys.argv[1:]), nprocs=2, start_method="fork")
"""


def test_two_processes_share_what_the_first_draws(tiny_policy: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "two.py", tmp_path / "out"
    script.write_text(TWO_PROCESSES)
    result = subprocess.run(
        [sys.executable, str(script), str(tiny_policy), str(out)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    (first, times, first_again), (second, none, second_again) = (
        json.loads((out / f"rank-{rank}.json").read_text()) for rank in range(2)
    )
    # 3 prompts x 4 responses a generation, 6 on each process: the second prompt's responses are on both.
    merged = [sample for i in (0, 6) for sample in first[i : i + 6] + second[i : i + 6]]
    scored = pass_rates([tuple(sample) for sample in merged], 3)
    assert times == np.bincount([row for rows, _ in scored for row in rows], minlength=9).tolist()
    assert none is None, "only the first process holds a curriculum"
    assert [first_again, second_again] == [first[6:], second[6:]], "resumed: the same draws and responses"
