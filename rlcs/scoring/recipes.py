"""Which rewards score a prompt, and how they make one value: a recipe for each domain, out of `reward` in the config.

A reward that several domains use with the same options is one reward, loaded once.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rlcs.config import REWARD_MODEL, CombineMode, DomainRewardConfig, RewardConfig
from rlcs.errors import ConfigError
from rlcs.plugins import absolute_form

STYLE = "style"
JUDGE = "judge"


@dataclass(frozen=True, slots=True)
class RewardSpec:
    """A reward to load."""

    form: str
    """Its name, the path of a file made absolute."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of its constructor."""

    @property
    def is_model(self) -> bool:
        """Whether it is the reward model, which one actor holds for all."""
        return self.form == REWARD_MODEL


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the prompts of a domain are scored."""

    rewards: tuple[int, ...]
    """Indices into `Recipes.specs`."""
    weights: tuple[float, ...]
    """One for each of them."""
    mode: CombineMode = "weighted_sum"
    is_gate: tuple[bool, ...] = ()
    """One for each of them, where the mode is `gate`."""
    gate_threshold: float = 0.5
    gate_cap: float = 0.0


@dataclass(frozen=True, slots=True)
class Recipes:
    """The rewards of a run and what each domain makes of them."""

    specs: tuple[RewardSpec, ...]
    default: Recipe
    of_domain: dict[str, Recipe]

    def of(self, domain: str) -> Recipe:
        """The recipe of a domain."""
        return self.of_domain.get(domain, self.default)

    def specs_of(self, domain: str) -> Iterator[RewardSpec]:
        """The rewards that score a domain."""
        return (self.specs[index] for index in self.of(domain).rewards)


def make_recipes(config: RewardConfig, default_reward: str) -> Recipes:
    """The recipes of a configuration; `default_reward` scores the domains for which it names none.

    Raises:
        ConfigError: options are of no reward, a gate is none of the rewards, or the reward model or the judge is used and
            not set up.
    """
    found: dict[str, tuple[int, RewardSpec]] = {}
    default = _make_recipe(config, "", default_reward, found)
    of_domain = {name: _make_recipe(config, name, default_reward, found) for name in config.domains}
    specs = tuple(spec for _, spec in found.values())
    _check_options(config, default_reward)
    _check_endpoints(config, specs)
    return Recipes(specs, default, of_domain)


def check_domains(config: RewardConfig, known: Iterable[str]) -> None:
    """Check that each domain of `reward.domains` is one of the data's.

    Raises:
        ConfigError: names the first that is not.
    """
    domains = sorted(set(known))
    for name in config.domains:
        if name not in domains:
            raise ConfigError(f"reward.domains.{name}: no prompt is of this domain; {_nearest(name, domains)}")


def _make_recipe(
    config: RewardConfig, domain: str, default_reward: str, found: dict[str, tuple[int, RewardSpec]]
) -> Recipe:
    """The recipe of a domain, or of all that have no settings of their own for an empty name; fills `found`."""
    own = config.domains.get(domain, DomainRewardConfig())
    forms = list(config.functions_of(domain) or [default_reward])
    weights = list(own.weights or ([] if own.functions else config.weights)) or [1.0] * len(forms)
    style = config.style_of(domain)
    if style is not None and STYLE not in forms:
        forms.append(STYLE)
        weights += [1.0] * (len(forms) - len(weights))
    weights = weights[: len(forms)]  # of all domains, style's weight may be one too many here
    options_of = {form: {**config.options.get(form, {}), **own.options.get(form, {})} for form in forms}
    rewards = []
    for form in forms:
        options = options_of[form]
        if form == STYLE:
            options = {"open_ended": True} | options if _is_open_ended(options_of) else options
            options |= style or {}
        if form == REWARD_MODEL:
            options = _model_options(config) | options
        spec = RewardSpec(absolute_form(form), options)
        key = json.dumps([spec.form, spec.options], sort_keys=True, default=str)
        rewards.append(found.setdefault(key, (len(found), spec))[0])
    mode = own.combine or config.combine
    gates = own.gates or config.gates or [STYLE]
    where = f"reward.domains.{domain}" if domain else "reward"
    if mode == "gate" and (own.gates or own.combine or not domain):
        _check_gates(gates, forms, where, explicit=bool(own.gates or config.gates))
    return Recipe(
        rewards=tuple(rewards),
        weights=tuple(weights),
        mode=mode,
        is_gate=tuple(form in gates for form in forms),
        gate_threshold=config.gate_threshold if own.gate_threshold is None else own.gate_threshold,
        gate_cap=config.gate_cap if own.gate_cap is None else own.gate_cap,
    )


def _is_open_ended(options_of: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a domain is scored by a reward model or a judge of whole answers alone: no rule could verify its answers."""
    judging = {form: options for form, options in options_of.items() if form != STYLE}
    return bool(judging) and all(
        form == REWARD_MODEL or (form == JUDGE and not options.get("boxed")) for form, options in judging.items()
    )


def _model_options(config: RewardConfig) -> dict[str, Any]:
    model = config.model
    options: dict[str, Any] = {"path": model.path, "max_length": model.max_length, "batch_size": model.batch_size}
    # Actors without a GPU of their own see those of the engines.
    return options if model.num_gpus else {**options, "device": "cpu"}


def _check_gates(gates: list[str], forms: list[str], where: str, explicit: bool) -> None:
    for gate in gates:
        if gate not in forms:
            hint = f"its rewards are {', '.join(forms)}"
            if not explicit:
                raise ConfigError(
                    f"{where}.combine is gate, but no reward is a gate: set {where}.gates, or style; {hint}"
                )
            raise ConfigError(f"{where}.gates names {gate!r}, which does not score there; {hint}")


def _check_options(config: RewardConfig, default_reward: str) -> None:
    """Options of a reward that is not used would be without effect, and so a mistake."""
    everywhere = {name: config.functions_of(name) or [default_reward] for name in ("", *config.domains)}
    styled = {name: [*forms, STYLE] for name, forms in everywhere.items()}
    used = [form for forms in styled.values() for form in forms]
    places: dict[str, tuple[Mapping[str, Any], list[str]]] = {"reward.options": (config.options, used)}
    for name, own in config.domains.items():
        places[f"reward.domains.{name}.options"] = (own.options, styled[name])
    for where, (options, known) in places.items():
        for form in options:
            if form not in known:
                raise ConfigError(f"{where}: no reward {form!r} is used there; {_nearest(form, known)}")


def _check_endpoints(config: RewardConfig, specs: Iterable[RewardSpec]) -> None:
    forms = {spec.form for spec in specs}
    if JUDGE in forms and config.judge.base_url is None:
        raise ConfigError("the reward `judge` needs an endpoint: set reward.judge.base_url and reward.judge.model")
    if any(spec.is_model and not spec.options["path"] for spec in specs):
        raise ConfigError("the reward `reward_model` needs a model: set reward.model.path")


def _nearest(word: str, known: Iterable[str]) -> str:
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
