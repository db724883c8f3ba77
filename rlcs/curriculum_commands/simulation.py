"""`rlcs simulate CONFIG`: a run's curriculum on simulated learners, against uniform sampling and others.

Of the config it takes the group and batch size, adaptive rollouts, the curriculum's settings and, where they can be told
at once, the domains: the tasks of an environment, the rows of a local file, or the names in `curriculum.domain_mix`.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from rlcs.adaptive import adaptive_plan, check_predicts
from rlcs.config import Config
from rlcs.curricula.adaptive import AdaptivePlan
from rlcs.curricula.base import PromptTable
from rlcs.curricula.loading import load_curriculum
from rlcs.curricula.simulate import ORACLE, Simulation, simulate
from rlcs.curricula.simulated_learner import ALL_ALIKE, SCENARIOS, Scenario, scenario_named
from rlcs.errors import ConfigError

_FIRST_SEED = 1000
_MOST_PROMPTS = 200_000
_MEASURES = ("rollouts", "steps", "tokens", "useful", "calibration_error", "brier", "distinct")
_RELATIVE = ("rollouts", "steps", "tokens")


@dataclass(frozen=True, slots=True)
class Entrant:
    """A curriculum that is simulated."""

    kind: str
    adaptive: bool = False
    """Whether responses are shared out adaptively."""

    def __str__(self) -> str:
        """Its name in the tables."""
        return f"{self.kind}, adaptive" if self.adaptive else self.kind


BASELINE = Entrant("uniform")


@dataclass(frozen=True, slots=True)
class Result:
    """One curriculum on one scenario: means over the seeds."""

    entrant: Entrant
    scenario: str
    reached: float
    """Share of the runs that reached the target accuracy."""
    rollouts: float
    steps: float
    tokens: float
    useful: float
    calibration_error: float | None
    brier: float | None
    distinct: float


@dataclass(slots=True)
class Plan:
    """What is simulated."""

    entrants: list[Entrant]
    """The baseline first."""
    scenarios: list[Scenario]
    seeds: list[int]
    batch_size: int
    group_size: int
    adaptive: AdaptivePlan | None
    """Of the entrants that share responses out adaptively."""
    domains: str
    """Where the domains are from, for a person."""


def simulate_config(
    config: Config, compare: Sequence[str], scenario_names: Sequence[str], *, seeds: int, as_json: bool
) -> list[Result]:
    """Simulate, showing progress on standard error, and print the tables. Ctrl-C prints what there is so far.

    Raises:
        ConfigError: there is no such curriculum or scenario, or a curriculum of somebody's failed.
    """
    plan = make_plan(config, compare, scenario_names, seeds)
    results: list[Result] = []
    started = time.monotonic()
    try:
        with _Bar(len(plan.scenarios) * len(plan.entrants) * len(plan.seeds)) as bar:
            for scenario in plan.scenarios:
                for entrant in plan.entrants:
                    results.append(_average(entrant, scenario.name, _run(config, plan, entrant, scenario, bar)))
    except KeyboardInterrupt:
        if results:
            _print(plan, _whole(plan, results), as_json, time.monotonic() - started, stopped=True)
        print("rlcs: stopped", file=sys.stderr)
        raise
    _print(plan, results, as_json, time.monotonic() - started, stopped=False)
    return results


def make_plan(config: Config, compare: Sequence[str], scenario_names: Sequence[str], seeds: int) -> Plan:
    """What to simulate for a config. Raises ConfigError if a scenario does not exist, or has no such domains."""
    try:
        scenarios = [scenario_named(name) for name in scenario_names] or [*SCENARIOS, ALL_ALIKE]
    except KeyError as error:
        raise ConfigError(str(error.args[0])) from error
    domains, source = _domains(config)
    if domains is not None and domains.is_exact and not scenario_names:
        # Its number of prompts is what sets this one apart, and that is known.
        scenarios = [scenario for scenario in scenarios if scenario.name != "2,000 prompts"]
    return Plan(
        entrants=_entrants(config, compare),
        scenarios=[_adapt(scenario, domains) for scenario in scenarios],
        seeds=[_FIRST_SEED + i for i in range(seeds)],
        batch_size=config.train.batch_size,
        group_size=config.rollout.num_generations,
        adaptive=adaptive_plan(config.rollout),
        domains=source,
    )


def _entrants(config: Config, compare: Sequence[str]) -> list[Entrant]:
    """The baseline, then the config's curriculum as it would run, then the others with the same settings.

    With adaptive rollouts each curriculum that predicts pass rates stands twice, with them and without.

    Raises:
        ConfigError: adaptive rollouts are on, and the config's curriculum predicts no pass rates.
    """
    kinds = list(dict.fromkeys([config.curriculum.kind, *compare]))
    entrants = [BASELINE]
    for kind in kinds:
        entrants += [Entrant(kind), Entrant(kind, adaptive=True)] if _shares_out(config, kind) else [Entrant(kind)]
    return list(dict.fromkeys(entrants))


def _shares_out(config: Config, kind: str) -> bool:
    """Whether responses are shared out adaptively with this curriculum."""
    if not config.rollout.first_generations or kind == ORACLE:
        return False
    settings = config.curriculum.model_copy(update={"kind": kind, "domain_mix": {}, "guess_rate": {}})
    table = PromptTable(np.zeros(1, dtype=np.int8), np.zeros(1, dtype=np.int16), ["domain"])
    curriculum = load_curriculum(kind, table, settings, config.seed)
    if kind == config.curriculum.kind:
        check_predicts(config, curriculum)
    return curriculum.predict_logits(np.zeros(1, dtype=np.int64)) is not None


@dataclass(frozen=True, slots=True)
class _Domains:
    """What is known of the training prompts."""

    counts: dict[str, int]
    """Prompts of each domain."""
    ungraded: float
    """Share of prompts without a tier."""
    is_exact: bool
    """Whether the counts are numbers of prompts, not only shares."""


def _domains(config: Config) -> tuple[_Domains | None, str]:
    """Domains and prompts as far as they are known without making or downloading any."""
    data = config.data
    if data.env is not None:
        counts: Counter[str] = Counter()
        for task in data.tasks:
            counts[task.domain or task.task] += data.train_per_level * (len(task.levels) or 5)
        return _Domains(dict(counts), 0.0, is_exact=True), "the tasks of the configuration"
    if data.train is not None and Path(data.train).is_file():
        from rlcs.data import load_splits

        prompts = load_splits(data, config.seed).train
        ungraded = sum(prompt.tier is None for prompt in prompts) / len(prompts)
        counts = Counter(prompt.domain for prompt in prompts)
        return _Domains(dict(counts), ungraded, is_exact=True), data.train
    names = list(config.curriculum.domain_mix)
    if names:
        return _Domains(dict.fromkeys(names, 1), 0.0, is_exact=False), "curriculum.domain_mix, equally large"
    return None, "the scenarios' own: those of the data are not known without loading it"


def _adapt(scenario: Scenario, domains: _Domains | None) -> Scenario:
    """The scenario with the domains and the number of prompts of the data."""
    if domains is None:
        return scenario
    changed = replace(
        scenario,
        domain_sizes=tuple(float(count) for count in domains.counts.values()),
        domain_names=tuple(domains.counts),
    )
    if not domains.is_exact:
        return changed
    total = min(sum(domains.counts.values()), _MOST_PROMPTS)
    return replace(changed, num_prompts=total, ungraded=max(scenario.ungraded, domains.ungraded))


def _run(config: Config, plan: Plan, entrant: Entrant, scenario: Scenario, bar: _Bar) -> list[Simulation]:
    simulations = []
    for seed in plan.seeds:
        bar.show(f"{entrant} on {scenario.name}")
        simulations.append(
            simulate(
                entrant.kind,
                scenario,
                config=config.curriculum.model_copy(update={"kind": entrant.kind}),
                batch_size=plan.batch_size,
                group_size=plan.group_size,
                seed=seed,
                adaptive=plan.adaptive if entrant.adaptive else None,
            )
        )
        bar.advance()
    return simulations


def _average(entrant: Entrant, scenario: str, simulations: list[Simulation]) -> Result:
    means = {name: float(np.mean([getattr(s, name) for s in simulations])) for name in _MEASURES}
    values: dict[str, Any] = {name: None if np.isnan(value) else value for name, value in means.items()}
    reached = float(np.mean([s.reached for s in simulations]))
    return Result(entrant=entrant, scenario=scenario, reached=reached, **values)


def _whole(plan: Plan, results: list[Result]) -> list[Result]:
    """The results of scenarios that all curricula went through."""
    return results[: len(results) // len(plan.entrants) * len(plan.entrants)]


def relative(results: Sequence[Result], entrant: Entrant, measure: str) -> float | None:
    """Geometric mean over scenarios of a count as a share of the baseline's; None where there is none."""
    base = {r.scenario: getattr(r, measure) for r in results if r.entrant == BASELINE}
    ratios = [getattr(r, measure) / base[r.scenario] for r in results if r.entrant == entrant and base[r.scenario]]
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else None


def _mean(results: Sequence[Result], entrant: Entrant, measure: str) -> float | None:
    values = [getattr(r, measure) for r in results if r.entrant == entrant]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _print(plan: Plan, results: list[Result], as_json: bool, seconds: float, *, stopped: bool) -> None:
    if as_json:
        head = {"seeds": plan.seeds, "batch_size": plan.batch_size, "group_size": plan.group_size, "stopped": stopped}
        head["adaptive"] = plan.adaptive and asdict(plan.adaptive)
        summary = [
            asdict(entrant)
            | {name: relative(results, entrant, name) for name in _RELATIVE}
            | {name: _mean(results, entrant, name) for name in ("useful", "calibration_error", "brier", "reached")}
            for entrant in plan.entrants
        ]
        rows = [asdict(result.entrant) | asdict(result) for result in results]
        for row in rows:
            del row["entrant"]
        print(json.dumps(head | {"summary": summary, "results": rows}))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    if results:
        console.print(_summary_table(plan, results))
        console.print(_scenario_table(plan, results))
    if plan.adaptive is not None:
        first, most = (round(share * plan.group_size) for share in (plan.adaptive.first, plan.adaptive.most))
        console.print(
            f"adaptive: {plan.adaptive.prompts:g} x {plan.batch_size} prompts an update, {first} responses each first, then "
            f"the rest of {plan.batch_size} x {plan.group_size} where they teach most, at most {most} a prompt.",
            markup=False,
        )
    console.print(
        f"{len(plan.seeds)} runs of each on simulated learners, {plan.batch_size} prompts x {plan.group_size} responses an "
        f"update; domains: {plan.domains}. Shares of {BASELINE}'s, smaller is better; useful: groups with a signal once "
        f"warm; calibration: expected error of predicted pass rates. {seconds:.1f} s",
        markup=False,
    )
    if any(result.reached < 1 for result in results):
        console.print("(!): not every run reached the target within 1,000 updates; its counts are lower bounds.")


def _summary_table(plan: Plan, results: list[Result]) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Until the target accuracy", title_justify="left")
    grid.add_column("curriculum", no_wrap=True)
    for name in ("responses", "updates", "tokens", "useful", "calibration"):
        grid.add_column(name, justify="right")
    for entrant in plan.entrants:
        shares = [relative(results, entrant, name) for name in _RELATIVE]
        useful, error = (_mean(results, entrant, name) for name in ("useful", "calibration_error"))
        cells = ["-" if share is None else f"{share:.2f}" for share in shares]
        cells += ["-" if useful is None else f"{useful:.0%}", "-" if error is None else f"{error:.3f}"]
        mark = _mark(result for result in results if result.entrant == entrant)
        grid.add_row(Text(f"{entrant}{mark}"), *cells)
    return grid


def _scenario_table(plan: Plan, results: list[Result]) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Responses by simulated learner", title_justify="left")
    grid.add_column("learner", no_wrap=True)
    for entrant in plan.entrants:
        grid.add_column(Text(str(entrant)), justify="right")
    for scenario in dict.fromkeys(result.scenario for result in results):
        own = [result for result in results if result.scenario == scenario]
        cells = [
            f"{result.rollouts:,.0f}" if result.entrant == BASELINE else f"{result.rollouts / own[0].rollouts:.2f}"
            for result in own
        ]
        grid.add_row(scenario, *(cell + _mark([result]) for cell, result in zip(cells, own, strict=True)))
    return grid


def _mark(results: Any) -> str:
    return "" if all(result.reached == 1 for result in results) else " (!)"


class _Bar:
    """Progress on standard error; on a terminal only."""

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, text: str) -> None:
        """Say what is simulated now."""
        self._progress.update(self._task, description=text)

    def advance(self) -> None:
        """One simulation is done."""
        self._progress.advance(self._task)
