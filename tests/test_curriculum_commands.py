"""`rlcs curriculum` and `rlcs simulate`: what a run's curriculum did and why, and what one would do."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlcs.checkpoint import Progress, save_checkpoint
from rlcs.config import Config, LoggingConfig
from rlcs.config_loading import dump_config, load_config
from rlcs.curricula.base import Observation, PromptTable
from rlcs.curricula.loading import BUILTIN_CURRICULA, load_curriculum
from rlcs.curriculum_commands.history import load_history
from rlcs.curriculum_commands.overview import overview
from rlcs.curriculum_commands.prompt import explain_prompt
from rlcs.curriculum_commands.simulation import Entrant, make_plan, relative, simulate_config
from rlcs.data import load_splits
from rlcs.errors import CheckpointError, ConfigError, DataError
from rlcs.runlog import RunLog
from rlcs.types import FinishReason, Group, Prompt, Response, Score

RATES = {"easy": 0.9, "hard": 0.1, "middle": 0.5}
STEPS = 12


def write_folder(folder: Path) -> Path:
    """A configuration and its data: three domains of 30 prompts, one of them without tiers."""
    rows = [
        {"prompt": f"{domain} {i}?", "answer": str(i), "domain": domain}
        | ({} if domain == "middle" else {"tier": i % 5})
        for domain in RATES
        for i in range(30)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "run.yaml"
    path.write_text(
        f"name: run\noutput_dir: {folder / 'runs'}\nmodel: {{init: tiny}}\ndata: {{train: {folder / 'train.jsonl'}}}\n"
        "rollout: {num_generations: 4}\ntrain: {batch_size: 8}\n"
    )
    return path


def response(right: bool) -> Response:
    return Response(
        token_ids=np.ones(2, dtype=np.int32),
        logprobs=np.zeros(2, dtype=np.float32),
        loss_mask=np.ones(2, dtype=bool),
        text="",
        finish_reason=FinishReason.STOP,
        policy_version=0,
        reward=Score(float(right), correct=right),
    )


def write_run(config: Config, prompts: list[Prompt], *, saved: int = STEPS, listed: bool = True) -> Path:
    """A run of `STEPS` iterations by a policy with the pass rates `RATES`, its checkpoint of iteration `saved`."""
    run_dir = config.run_dir
    run_dir.mkdir(parents=True)
    (run_dir / "config.yaml").write_text(dump_config(config))
    table = PromptTable.of(prompts)
    curriculum = load_curriculum(config.curriculum.kind, table, config.curriculum, config.seed)
    log, rng = RunLog(run_dir, LoggingConfig(tensorboard=False), {}), np.random.default_rng(0)
    if listed:
        log.write_prompts(prompts)
    for step in range(1, STEPS + 1):
        rows = curriculum.draw(curriculum.num_prompts(8))
        groups = [
            Group(prompt, np.ones(1, np.int32), [response(bool(x)) for x in rng.random(4) < RATES[prompt.domain]])
            for prompt in (prompts[row] for row in rows)
        ]
        rates = np.asarray([group.pass_rate for group in groups])
        degenerate = np.asarray([group.is_degenerate for group in groups])
        curriculum.observe(Observation(rows, rates, degenerate, 4))
        log.write_rollouts(step, groups, curriculum.select(rates, degenerate, 8))
        log.flush()
        log.write_metrics(step, curriculum.metrics())
        if step == saved:
            save_checkpoint(
                run_dir, Progress(step), {"curriculum": curriculum.state_dict()}, Path.mkdir, Path.mkdir, keep_last=2
            )
    return run_dir


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    return write_folder(tmp_path)


def made(config_file: Path, kind: str = "posterior", **options: Any) -> Path:
    config = load_config(config_file, [f"curriculum.kind={kind}", "data.eval_fraction=0"])
    return write_run(config, load_splits(config.data, config.seed).train, **options)


@pytest.mark.parametrize("kind", sorted(BUILTIN_CURRICULA))
def test_the_table_adds_up_for_every_sampler(config_file: Path, kind: str) -> None:
    history = load_history(made(config_file, kind))
    table = overview(history)
    assert history.notes == [] and history.checkpoint_step == STEPS
    assert [(cell.domain, cell.tier) for cell in table.cells] == [
        *(("easy", tier) for tier in range(5)),
        *(("hard", tier) for tier in range(5)),
        ("middle", None),
    ]
    for cells in (table.cells, table.domains, table.tiers, [table.all]):
        assert sum(cell.share_drawn for cell in cells) == pytest.approx(1)
        assert sum(cell.share_available for cell in cells) == pytest.approx(1)
        assert sum(cell.groups for cell in cells) == len(history.rows)
        assert sum(cell.distinct for cell in cells) == len(np.unique(history.rows))
    rates = {cell.domain: cell for cell in table.domains}
    for name, rate in RATES.items():
        assert rates[name].first_pass_rate == pytest.approx(rate, abs=0.2)
        assert rates[name].pass_rate == pytest.approx(rate, abs=0.3)
    assert (rates["middle"].useful or 0) > (rates["hard"].useful or 0)


@pytest.mark.parametrize("kind", sorted(BUILTIN_CURRICULA))
def test_a_prompt_is_explained_for_every_sampler(config_file: Path, kind: str) -> None:
    history = load_history(made(config_file, kind))
    row = int(history.rows[0])
    report = explain_prompt(history, history.id_of(row)[:10])
    assert report.prompt_id == history.id_of(row)
    assert report.text == f"{report.domain} {report.text.split()[1]}" if report.text else False
    assert len(report.draws) == (history.rows == row).sum()
    assert all(draw.pass_rate in (0, 0.25, 0.5, 0.75, 1) for draw in report.draws)
    assert 1 <= report.numbers["weight_rank"] <= report.peers
    assert report.numbers["weight"] >= 0
    assert report.sentences[0].startswith("It was drawn")
    assert len(report.sentences) >= 3 and all(sentence.endswith(".") for sentence in report.sentences)


def test_a_prompt_that_was_never_drawn_says_so(config_file: Path) -> None:
    history = load_history(made(config_file))
    row = int(np.setdiff1d(np.arange(len(history.ids)), history.rows)[0])
    report = explain_prompt(history, history.id_of(row))
    assert report.draws == [] and report.text
    assert report.sentences[0].startswith(f"It was never drawn in {STEPS} recorded iterations")
    assert "Not rolled out yet" in " ".join(report.sentences)


def test_a_checkpoint_older_than_the_last_draw_is_told(config_file: Path) -> None:
    history = load_history(made(config_file, saved=5))
    late = history.id_of(history.rows[history.steps == STEPS][0])
    assert "newest checkpoint, iteration 5" in explain_prompt(history, late).sentences[1]


def test_a_mastered_prompt_counts_as_retired_and_returns(config_file: Path) -> None:
    config = load_config(config_file, ["curriculum.kind=posterior"])
    table = PromptTable(np.full(60, 2, np.int8), np.zeros(60, np.int16), ["only"])
    curriculum = load_curriculum("posterior", table, config.curriculum, 0)
    middle = np.arange(1, 60)
    for _ in range(6):
        rates = np.append(1.0, np.full(59, 0.5))
        curriculum.observe(Observation(np.append(0, middle), rates, rates == 1, 8))
    assert curriculum.explain(0)["retired"] == 1 and curriculum.explain(1)["retired"] == 0
    assert "mastered" in " ".join(curriculum.reasons(0))
    for _ in range(6):
        curriculum.observe(Observation(np.asarray([0]), np.asarray([0.4]), np.zeros(1, bool), 8))
    assert curriculum.explain(0)["retired"] == 0


def test_runs_without_a_list_of_prompts_are_read_by_their_data(config_file: Path) -> None:
    run_dir = made(config_file, listed=False)
    history = load_history(run_dir)
    assert history.curriculum is not None and len(history.ids) == 90
    (config_file.parent / "train.jsonl").unlink()
    history = load_history(run_dir)
    assert history.curriculum is None and len(history.ids) == len(np.unique(history.rows))
    assert "data cannot be loaded" in history.notes[0]
    report = explain_prompt(history, history.id_of(0))
    assert report.text and report.draws  # the text of its rollout


def test_what_cannot_be_found_is_one_clear_error(config_file: Path, tmp_path: Path) -> None:
    history = load_history(made(config_file))
    with pytest.raises(DataError, match="no training prompt has an id that begins with 'zz'"):
        history.find("zz")
    shared = next(c for c in "0123456789abcdef" if sum(name.startswith(c) for name in history.ids.to_pylist()) > 1)
    with pytest.raises(DataError, match="prompts have ids that begin with"):
        history.find(shared)
    with pytest.raises(CheckpointError, match="no run's folder"):
        load_history(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.yaml").write_text("")
    with pytest.raises(CheckpointError, match="has no rollouts"):
        load_history(empty)


def test_the_command_prints_tables_and_json(run_cli: Callable[..., Any], config_file: Path) -> None:
    run_dir = made(config_file)
    result = run_cli("curriculum", run_dir)
    assert result.code == 0 and "pass rate then" in result.stdout and "middle" in result.stdout
    table = json.loads(run_cli("curriculum", run_dir, "--json").stdout)
    assert table["all"]["prompts"] == 90 and table["iterations"] == STEPS
    prompt_id = load_history(run_dir).id_of(3)
    result = run_cli("curriculum", run_dir, "--prompt", prompt_id[:12])
    assert result.code == 0 and prompt_id in result.stdout
    assert json.loads(run_cli("curriculum", run_dir, "--prompt", prompt_id, "--json").stdout)["prompt_id"] == prompt_id
    result = run_cli("curriculum", config_file.parent)
    assert result.code == 2 and "no run's folder" in result.stderr


def test_reading_a_run_needs_no_torch_ray_or_vllm(config_file: Path) -> None:
    run_dir = made(config_file)
    code = (
        "import sys; from pathlib import Path; from rlcs.curriculum_commands.show import show_curriculum;"
        f"show_curriculum(Path({str(run_dir)!r}), as_json=True);"
        "import rlcs.curriculum_commands.simulation;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'ray', 'vllm')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_a_config_is_simulated_with_its_domains_and_sizes(config_file: Path) -> None:
    config = load_config(config_file, ["data.eval_fraction=0"])
    plan = make_plan(config, ["posterior", "uniform"], [], seeds=3)
    assert [str(entrant) for entrant in plan.entrants] == ["uniform", "rlcs", "posterior"]
    assert (plan.batch_size, plan.group_size, len(plan.seeds)) == (8, 4, 3)
    for scenario in plan.scenarios:
        assert sorted(scenario.domain_names) == sorted(RATES) and scenario.num_prompts == 90
        assert scenario.ungraded >= 1 / 3


def test_simulated_curricula_are_compared_with_uniform(
    config_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plug_in = tmp_path / "mine.py"
    plug_in.write_text("from rlcs.curricula.uniform import Uniform\nclass Mine(Uniform): pass\n")
    config = load_config(config_file, ["curriculum.kind=posterior", "train.batch_size=32"])
    results = simulate_config(config, [f"{plug_in}:Mine"], ["mostly mastered"], seeds=3, as_json=False)
    text = capsys.readouterr().out
    assert "responses" in text and "calibration" in text and "mostly mastered" in text
    share = relative(results, Entrant("posterior"), "rollouts")
    assert share is not None and share < 0.7
    assert relative(results, Entrant(f"{plug_in}:Mine"), "rollouts") == 1
    simulate_config(config, [], ["mostly mastered"], seeds=3, as_json=True)
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert [row["kind"] for row in summary] == ["uniform", "posterior"]
    assert summary[1]["rollouts"] == pytest.approx(share)


def test_a_run_is_replayed_through_the_estimators(
    config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "curriculum_replay.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(made(config_file, "uniform"))])
    runpy.run_path(str(script), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["run item_response", "run beta"]
    for line in lines:
        figures = {
            name: float(value)
            for name, value in (part.rsplit(" ", 1) for part in line[line.index(": ") + 2 :].split(", "))
        }
        assert all(np.isfinite(value) for value in figures.values())
        assert 0 < figures["squared error"] < 0.3 and 0 <= figures["area"] <= 1


def test_adaptive_rollouts_of_the_config_are_simulated(
    config_file: Path, capsys: pytest.CaptureFixture[str], run_cli: Callable[..., Any]
) -> None:
    settings = ["curriculum.kind=posterior", "train.batch_size=32", "rollout.first_generations=2"]
    config = load_config(config_file, [*settings, "rollout.max_generations=8", "rollout.adaptive_prompts=0.75"])
    results = simulate_config(config, ["rlcs", "oracle"], ["mostly mastered"], seeds=3, as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["adaptive"] == {"prompts": 0.75, "first": 0.5, "most": 2.0}
    assert [(row["kind"], row["adaptive"]) for row in report["summary"]] == [
        ("uniform", False), ("posterior", False), ("posterior", True), ("rlcs", False), ("oracle", False)
    ]  # fmt: skip
    assert [row["rollouts"] for row in report["results"]] == [result.rollouts for result in results]
    plain, adaptive = (relative(results, Entrant("posterior", adaptive=on), "rollouts") for on in (False, True))
    assert adaptive is not None and plain is not None and adaptive < plain < 0.7
    (shared_out,) = [result for result in results if result.entrant.adaptive]
    assert shared_out.rollouts == pytest.approx(shared_out.steps * 32 * 4)  # the budget of an iteration is as without

    simulate_config(config, [], ["mostly mastered"], seeds=1, as_json=False)
    text = " ".join(capsys.readouterr().out.split())
    assert "posterior, adaptive" in text and "0.75 x 32 prompts an update, 2 responses each first" in text
    assert "at most 8 a prompt" in text

    refused = run_cli("simulate", config_file, *settings[1:], "curriculum.kind=rlcs")
    assert refused.code == 2 and "set curriculum.kind=posterior, or rollout.first_generations=0" in refused.stderr


PLUG_INS = {
    "raises": ("raise KeyError('rows')", "KeyError"),
    "outside": ("return np.full(n, 10**6)", "row 1000000 is not in the table"),
    "no rows": ("return np.zeros(0, dtype=int)", "at least one"),
    "no numbers": ("return np.full(n, 0.5)", "float64"),
}


@pytest.mark.parametrize("case", PLUG_INS)
def test_a_curriculum_of_somebodys_that_fails_is_named(config_file: Path, tmp_path: Path, case: str) -> None:
    body, words = PLUG_INS[case]
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\nfrom rlcs.curricula.base import Curriculum\nclass Mine(Curriculum):\n"
        f"    def draw(self, n):\n        {body}\n    def observe(self, observation):\n        pass\n"
    )
    config = load_config(config_file, [f"curriculum.kind={file}:Mine"])
    with pytest.raises(ConfigError, match=words) as error:
        simulate_config(config, [], ["base"], seeds=1, as_json=False)
    assert "mine.py:Mine" in str(error.value) and "iteration 1" in str(error.value)


def test_an_unknown_scenario_or_curriculum_is_told(run_cli: Callable[..., Any], config_file: Path) -> None:
    result = run_cli("simulate", config_file, "--scenario", "bass")
    assert result.code == 2 and "no scenario 'bass'; there are base" in result.stderr
    result = run_cli("simulate", config_file, "--compare", "posteror", "--scenario", "base", "--seeds", "1")
    assert result.code == 2 and "posterior" in result.stderr


def test_ctrl_c_prints_what_there_is(run_cli: Callable[..., Any], config_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "impatient.py"
    file.write_text(
        "import os, signal\nfrom rlcs.curricula.uniform import Uniform\nclass Impatient(Uniform):\n"
        "    made = 0\n"
        "    def __init__(self, *arguments):\n        super().__init__(*arguments)\n        Impatient.made += 1\n"
        "    def draw(self, n):\n"
        "        if Impatient.made == 2:\n            os.kill(os.getpid(), signal.SIGINT)\n"
        "        return super().draw(n)\n"
    )
    scenarios = ["--scenario", "mostly mastered", "--scenario", "base"]
    result = run_cli("simulate", config_file, *scenarios, "--seeds", "1", "--compare", f"{file}:Impatient")
    assert result.code == 130
    assert "mostly mastered" in result.stdout and "base" not in result.stdout
    assert "stopped" in result.stderr and "Traceback" not in result.stderr
