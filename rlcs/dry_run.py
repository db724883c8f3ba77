"""`rlcs train --dry-run`: where every actor would go, what memory it would take, and how many tokens a step has.

Works from the configuration: nothing is started, downloaded or written, and no GPU is needed. The formulas are those
of `rlcs.memory`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from rlcs.config import Config
from rlcs.errors import ConfigError
from rlcs.memory import GIB, EngineMemory, Estimate, LearnerMemory, estimate, shards
from rlcs.model_shape import ModelShape, shape_of
from rlcs.placement import Placement, place


def dry_run(config: Config, *, num_cpus: float, num_gpus: float) -> str:
    """The report, for a machine or cluster with so many CPUs and GPUs where `cluster` does not say how many.

    Raises:
        ConfigError: an actor finds no place, or something does not fit into a GPU; the model's shape is not known; the
            prompt and response are longer than the model's context.
    """
    shape = shape_of(config.model)
    longest = config.rollout.max_prompt_length + config.rollout.max_completion_length
    if shape.max_context is not None and longest > shape.max_context:
        raise ConfigError(
            f"rollout.max_prompt_length + rollout.max_completion_length ({longest}) is more than the model's context "
            f"({shape.max_context}): lower one of them"
        )
    if config.cluster.gpus_per_node is None and math.isfinite(num_gpus):
        placement = place(config, gpus_per_node=int(num_gpus) // config.cluster.num_nodes)
    else:
        placement = place(config)
    _check_cpus(config, placement, num_cpus)
    found = estimate(config, shape, placement)
    lines = [
        *_model(config, shape),
        *_placement(config, placement),
        *_memory(config, shape, found),
        *_tokens(config, found.learner),
    ]
    return "\n".join(lines) + "\n"


def _check_cpus(config: Config, placement: Placement, num_cpus: float) -> None:
    """The CPUs of a cluster are known where it is local; of another that is planned for, if `cluster.num_cpus` says."""
    if config.cluster.num_cpus is None and config.cluster.gpus_per_node is not None:
        return
    needed = sum(seat.cpus for seat in placement.seats)
    if needed > num_cpus + 1e-9:
        raise ConfigError(
            f"placement: the actors need {needed:g} CPUs, but there are {num_cpus:g}: lower rollout.num_engines, "
            "rollout.cpus_per_engine or reward.num_actors"
        )


def _model(config: Config, shape: ModelShape) -> Iterator[str]:
    name = config.model.path or "a tiny random policy"
    yield (
        f"model      {name}: {_count(shape.num_parameters)} parameters, {shape.num_layers} layers of width "
        f"{shape.hidden_size}, vocabulary {shape.vocab_size:,}, {config.model.dtype} (from {shape.source})"
    )


def _placement(config: Config, placement: Placement) -> Iterator[str]:
    rollout, ranks = config.rollout, config.learner.data_parallel_size
    cluster = f"{placement.num_nodes} node{'s' * (placement.num_nodes > 1)}"
    if placement.gpus_per_node:
        cluster += f" of {placement.gpus_per_node} GPUs of {config.cluster.gpu_memory_gib:g} GiB"
    yield f"placement  {placement.mode} on {cluster}"
    how = f"tensor parallel {rollout.tensor_parallel_size}" if rollout.tensor_parallel_size > 1 else "one device each"
    yield f"           {rollout.num_engines} engines ({how}), {ranks} learner rank{'s' * (ranks > 1)}" + (
        " (weights and optimizer sharded)" if shards(config) > 1 else ""
    )
    for node in range(placement.num_nodes):
        for gpus, names in _runs(placement, node):
            yield f"  node {node}   GPU {gpus:<6} {names}"
        on_cpu = [seat.name for seat in placement.seats if seat.node == node and not seat.gpus]
        if on_cpu:
            cpus = sum(seat.cpus for seat in placement.seats if seat.node == node)
            yield f"  node {node}   CPU        {_abbreviated(on_cpu)} ({cpus:g} CPUs in all)"


def _runs(placement: Placement, node: int) -> Iterator[tuple[str, str]]:
    """Neighbouring GPUs with the same seats in one line."""
    start = 0
    seats = [tuple(seat.name for seat in placement.on(node, gpu)) for gpu in range(placement.gpus_per_node)]
    for gpu in range(placement.gpus_per_node):
        if gpu + 1 < placement.gpus_per_node and seats[gpu + 1] == seats[gpu]:
            continue
        label = str(start) if start == gpu else f"{start}-{gpu}"
        yield label, ", ".join(seats[gpu]) or "nothing"
        start = gpu + 1


def _abbreviated(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:2])}, ... {names[-1]}"


def _memory(config: Config, shape: ModelShape, found: Estimate) -> Iterator[str]:
    learner = found.learner
    where = "GPU" if config.learner.gpus else "process"
    yield f"memory     estimates in GiB; a learner rank ({where}), micro-steps of {learner.tokens:,} tokens:"
    parts = {**learner.kept, **learner.update}
    yield "           " + ", ".join(f"{name} {size:.1f}" for name, size in parts.items() if size >= 0.05)
    yield f"           in all {learner.peak:.1f} in an update, {learner.resident:.1f} between updates"
    if found.engine is not None:
        yield from _engine(config, found.engine)
    else:
        element = 2 if config.model.dtype == "bfloat16" else 4
        weights = element * shape.num_parameters / GIB
        yield f"           an engine (process): weights {weights:.1f}, KV cache {config.rollout.cpu_kv_cache_gib}"
    by_size: dict[tuple[float, float], list[str]] = {}
    for gpu in found.gpus:
        key = round(gpu.generating, 1), round(gpu.updating, 1)
        by_size.setdefault(key, []).append(f"{gpu.node}/{gpu.gpu}")
    total = config.cluster.gpu_memory_gib
    for (generating, updating), gpus in by_size.items():
        span = gpus[0] if len(gpus) == 1 else f"{gpus[0]} to {gpus[-1]}, {len(gpus)} of them"
        yield f"  GPU {span}: {generating:.1f} while generating, {updating:.1f} in an update, of {total:g}"


def _engine(config: Config, engine: EngineMemory) -> Iterator[str]:
    yield (
        f"           an engine, each GPU: share {engine.share:.1f}, weights {engine.weights:.1f}, KV cache "
        f"{engine.kv_cache:.1f} = {engine.kv_tokens:,} tokens, {engine.full_sequences:.0f} sequences of full length "
        f"(rollout.max_num_seqs {config.rollout.max_num_seqs})"
    )


def _tokens(config: Config, learner: LearnerMemory) -> Iterator[str]:
    rollout, ranks = config.rollout, config.learner.data_parallel_size
    responses = config.train.batch_size * rollout.num_generations
    generated = responses * rollout.max_completion_length
    prompts = config.train.batch_size * rollout.max_prompt_length
    steps = math.ceil((generated + prompts) / learner.tokens / ranks)
    yield (
        f"tokens     a step learns from {config.train.batch_size} prompts x {rollout.num_generations} = {responses:,} "
        f"responses: at most {generated:,} generated tokens and {prompts:,} of prompts"
    )
    yield f"           at most {steps} micro-steps of {learner.tokens:,} tokens on each learner rank"
    if config.curriculum.expansion and config.curriculum.max_expansion > 1:
        yield f"           up to {config.curriculum.max_expansion:g} times as many are generated (curriculum.max_expansion)"


def _count(number: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number:,}"
