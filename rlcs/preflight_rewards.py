"""Checks of the rewards before a run starts: their settings, every reference answer, the judge's endpoint.

Nothing here imports Ray. What is wrong is one line that says where, before anything was written.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rlcs.config import OUR_COLUMNS, Config, DataConfig, JudgeConfig
from rlcs.data import DataSplits
from rlcs.data_files import BadRow, open_rows
from rlcs.data_media import MediaReader, read_prompt
from rlcs.data_rows import RowProblem
from rlcs.errors import DataError
from rlcs.response_format import render_response
from rlcs.rewards.loading import LoadedReward, load_reward
from rlcs.scoring.recipes import check_domains, make_recipes
from rlcs.types import Prompt

if TYPE_CHECKING:
    from rlcs.rewards.judge import LLMJudge

logger = logging.getLogger(__name__)

_SHOWN_ROWS = 10


def check_rewards(config: Config, default_reward: str, data: DataSplits) -> DataSplits:
    """Load every reward, try the functions on two samples, ask classes whether they can use each reference, and the
    judge, where one is used, whether it is there.

    Returns the prompts whose references can be used: all of them, unless `data.on_bad_row` is `skip`.

    Raises:
        ConfigError: settings of the rewards contradict each other or the data.
        RewardError: a reward cannot be made, a function raised or returned something that is no list of scores, or the
            judge does not answer.
        DataError: a reference answer cannot be used and bad rows are refused, or none can be.
    """
    prompts = data.train + data.eval
    recipes = make_recipes(config.reward, default_reward)
    check_domains(config.reward, (prompt.domain for prompt in prompts))
    problems: dict[str, str] = {}
    with _judge(config.reward.judge) as judge:
        for index, spec in enumerate(recipes.specs):
            own = [prompt for prompt in prompts if index in recipes.of(prompt.domain).rewards]
            timeout_s = config.reward.timeout_s
            reward = load_reward(spec.form, timeout_s=timeout_s, options=spec.options, judge=judge)
            try:
                _try(reward, own[:2])
                if judge is not None and reward.uses_judge and own:
                    judge.check()
                for prompt in own:
                    problem = reward.validate(prompt)
                    if problem:
                        problems.setdefault(prompt.id, _describe(reward, prompt, problem))
                        if config.data.on_bad_row == "error":
                            place = _places(config.data, problems).get(prompt.id)
                            where = f"{place} (data.on_bad_row=skip leaves such rows out): " if place else ""
                            raise DataError(where + problems[prompt.id])
            finally:
                reward.close()
    return _without(config.data, data, problems) if problems else data


def _try(reward: LoadedReward, sample: list[Prompt]) -> None:
    """A mistake in somebody's function is told now, not after the cold start."""
    if reward.is_function and sample:
        texts = [render_response("", prompt.answer) for prompt in sample]
        reward.score_batch(sample, texts, [len(text) for text in texts])


def _describe(reward: LoadedReward, prompt: Prompt, problem: str) -> str:
    return (
        f"reward {reward.name!r} cannot use the reference of prompt {prompt.id} "
        f"(domain {prompt.domain}, answer {prompt.answer[:60]!r}): {problem}"
    )


def _without(config: DataConfig, data: DataSplits, problems: dict[str, str]) -> DataSplits:
    """The prompts without a problem; each that is left out is logged with its file and row."""
    places = _places(config, problems)
    for id_, problem in list(problems.items())[:_SHOWN_ROWS]:
        logger.warning("%s: skipped: %s", places.get(id_, "data"), problem)
    if len(problems) > _SHOWN_ROWS:
        logger.warning("skipped %d more rows whose reference cannot be used", len(problems) - _SHOWN_ROWS)
    kept = DataSplits(
        train=[prompt for prompt in data.train if prompt.id not in problems],
        eval=[prompt for prompt in data.eval if prompt.id not in problems],
    )
    if data.train and not kept.train:
        raise DataError(
            f"no training prompt has a reference that can be used; the first: {next(iter(problems.values()))}"
        )
    return kept


def _places(config: DataConfig, ids: Collection[str]) -> dict[str, str]:
    """`FILE, line 3` of the first row of each prompt; nothing for prompts that an environment made."""
    places: dict[str, str] = {}
    columns = {ours: config.columns.get(ours, ours) for ours in OUR_COLUMNS}
    for key, name, split in (("train", config.train, config.train_split), ("eval", config.eval, config.eval_split)):
        if name is None:
            continue
        source = open_rows(name, f"data.{key}", split=split, subset=config.subset)
        media = MediaReader.of(config, source.folder)
        for row in source.rows:
            if isinstance(row, BadRow):
                continue
            try:
                id_ = read_prompt(row.values, columns, None, media, answer_required=config.answer_required).id
            except RowProblem:
                continue
            if id_ in ids:
                places.setdefault(id_, f"{source.name}, {source.unit} {row.number}")
    return places


@contextmanager
def _judge(config: JudgeConfig) -> Iterator[LLMJudge | None]:
    """The judge of the configuration, if there is one."""
    if config.base_url is None:
        yield None
        return
    from rlcs.rewards.judge import make_judge

    judge = make_judge(**config.model_dump())
    try:
        yield judge
    finally:
        if judge is not None:
            judge.close()
