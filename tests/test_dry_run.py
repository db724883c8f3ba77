"""`rlcs train --dry-run`: places, memory and tokens, from the configuration alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcs.config import Config, ModelConfig
from rlcs.config_loading import load_config
from rlcs.dry_run import dry_run
from rlcs.errors import ConfigError, DataError
from rlcs.memory import estimate, layer_bytes, learner_memory
from rlcs.model_shape import ModelShape, shape_of
from rlcs.placement import place

ROOT = Path(__file__).resolve().parent.parent


def configured(**sections: Any) -> Config:
    tree: dict[str, Any] = {"model": {"path": "Qwen/Qwen2.5-7B", "dtype": "bfloat16"}, "data": {"train": "train.jsonl"}}
    return Config.model_validate(tree | sections)


def on_gpus(placement: str = "split", **changes: Any) -> Config:
    tree: dict[str, Any] = {
        "cluster": {"placement": placement, "gpus_per_node": 8},
        "rollout": {"num_engines": 4, "gpus_per_engine": 1},
        "learner": {"gpus": 4, "gradient_checkpointing": True},
    }
    for section, values in changes.items():
        tree[section] = {**tree.get(section, {}), **values}
    return configured(**tree)


def report(config: Config) -> str:
    return dry_run(config, num_cpus=64, num_gpus=0)


# The configurations that ship


@pytest.mark.parametrize(
    ("name", "gpus", "ranks"),
    [
        ("grpo_1.5b_1gpu", 1, 1),
        ("grpo_7b_8gpu", 8, 8),
        ("grpo_7b_4x8gpu", 32, 8),
        ("grpo_glm4.1v_9b_8gpu", 8, 8),
        ("grpo_qwen2.5_vl_3b_lora_1gpu", 1, 1),
    ],
)
def test_a_shipped_configuration_fits_its_cluster(name: str, gpus: int, ranks: int) -> None:
    config = load_config(ROOT / f"configs/{name}.yaml")
    text = report(config)
    placement = place(config)
    used = {(seat.node, gpu) for seat in placement.seats for gpu in seat.gpus}
    assert len(used) == gpus
    assert sum(seat.actor == "learner" for seat in placement.seats) == ranks
    for found in estimate(config, shape_of(config.model), placement).gpus:
        assert 0 < found.peak < config.cluster.gpu_memory_gib
    for word in (
        "placement",
        "learner rank 0",
        "engine 0",
        "weights",
        "optimizer",
        "KV cache",
        "tokens",
        "micro-steps",
    ):
        assert word in text


def test_the_quickstart_is_placed_on_cpus() -> None:
    text = dry_run(load_config(ROOT / "configs/quickstart.yaml"), num_cpus=2, num_gpus=0)
    assert "GPU" not in text.replace("GPUs", "")
    assert "engine 1" in text and "scorer 0" in text


# Shapes


def test_the_table_of_known_models_counts_as_their_names_say() -> None:
    for name, billions in [
        ("Qwen/Qwen2.5-7B-Instruct", 7.62),
        ("Qwen/Qwen3-4B", 4.02),
        ("meta-llama/Llama-3.1-8B", 8.03),
    ]:
        assert shape_of(ModelConfig(path=name)).num_parameters / 1e9 == pytest.approx(billions, rel=0.005)


def test_a_model_folder_is_counted_as_it_is(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    content = {
        "model_type": "qwen3",
        "hidden_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "intermediate_size": 200,
        "vocab_size": 1000,
        "tie_word_embeddings": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(content))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert shape_of(ModelConfig(path=str(tmp_path))).num_parameters == pytest.approx(counted, rel=1e-3)


@pytest.mark.parametrize("name", ["Glm4v", "Qwen2_5_VL"])
def test_a_vision_language_model_is_counted_with_its_tower_and_projector(tmp_path: Path, name: str) -> None:
    import transformers

    sizes = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    vision = {"depth": 2, "hidden_size": 64, "num_heads": 4, "intermediate_size": 200, "out_hidden_size": 128}
    config = getattr(transformers, f"{name}Config")(
        text_config=sizes | {"intermediate_size": 300, "vocab_size": 1000}, vision_config=vision | {"image_size": 112}
    )
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    shape = shape_of(ModelConfig(path=str(tmp_path)))
    assert shape.vision is not None
    counted = {
        "projector": sum(p.numel() for p in model.model.visual.merger.parameters()),
        "seen": sum(p.numel() for p in model.model.visual.parameters()),
        "all": sum(p.numel() for p in model.parameters()),
    }
    assert shape.vision.projector_parameters == pytest.approx(counted["projector"], rel=0.01)
    assert shape.vision.num_parameters == pytest.approx(counted["seen"], rel=0.01)
    assert shape.num_parameters == pytest.approx(counted["all"], rel=0.005)


def test_known_vision_language_models_count_as_their_names_say() -> None:
    for name, billions in [("zai-org/GLM-4.1V-9B-Thinking", 10.29), ("Qwen/Qwen2.5-VL-3B-Instruct", 3.75)]:
        assert shape_of(ModelConfig(path=name)).num_parameters / 1e9 == pytest.approx(billions, rel=0.002)


def test_a_frozen_vision_tower_costs_its_weights_and_no_more() -> None:
    trained, frozen = (
        on_gpus(model={"path": "zai-org/GLM-4.1V-9B-Thinking", "freeze": parts}) for parts in ([], ["vision_tower"])
    )
    shape = shape_of(trained.model)
    assert shape.vision is not None
    with_tower, without = (learner_memory(config, shape) for config in (trained, frozen))
    assert without.kept["weights"] == with_tower.kept["weights"]
    moments = 8 * shape.vision.tower_parameters / 4 / 2**30  # of four ranks
    assert with_tower.kept["optimizer"] - without.kept["optimizer"] == pytest.approx(moments)
    assert with_tower.update["vision activations"] > 1 and without.update["vision activations"] == 0
    lora = on_gpus(model={"path": "Qwen/Qwen2.5-VL-3B-Instruct", "lora": {}}, learner={"gpus": 1})
    assert learner_memory(lora, shape_of(lora.model)).update["vision activations"] == 0


def test_sizes_in_the_configuration_serve_a_model_that_is_not_here() -> None:
    shape = {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "intermediate_size": 128, "vocab_size": 500}
    found = shape_of(ModelConfig.model_validate({"path": "me/mine", "shape": shape}))
    assert (found.num_kv_heads, found.head_dim) == (4, 16)


def test_an_unknown_model_is_refused_with_the_setting_to_give() -> None:
    with pytest.raises(ConfigError, match=r"me/mine.*model\.shape"):
        shape_of(ModelConfig(path="me/mine"))


@pytest.mark.parametrize("content", ["{", "[1]", "{}", '{"hidden_size": "wide"}'])
def test_a_damaged_config_json_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises((ConfigError, DataError), match=re.escape(str(tmp_path / "config.json"))):
        shape_of(ModelConfig(path=str(tmp_path)))


# Places


@given(
    st.integers(1, 4),
    st.integers(1, 8),
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(1, 8),
    st.sampled_from(["split", "colocate"]),
)
def test_no_gpu_is_given_twice_except_in_turns(
    nodes: int, per_node: int, engines: int, parallel: int, ranks: int, placement: str
) -> None:
    config = on_gpus(
        placement,
        cluster={"num_nodes": nodes, "gpus_per_node": per_node},
        rollout={"num_engines": engines, "gpus_per_engine": parallel, "tensor_parallel_size": parallel},
        learner={"gpus": ranks},
    )
    try:
        found = place(config)
    except ConfigError:
        engine_gpus = nodes * (per_node // parallel) * parallel
        enough = engines * parallel <= engine_gpus and ranks <= nodes * per_node
        if placement == "colocate":
            assert not enough
        else:  # single GPUs fill up gaps, so only the blocks may lack room
            assert parallel > 1 or engines + ranks > nodes * per_node
        return
    for node in range(nodes):
        for gpu in range(per_node):
            actors = [seat.actor for seat in found.on(node, gpu)]
            assert len(actors) == len(set(actors)) <= (2 if placement == "colocate" else 1)
    for seat in found.seats:
        assert len(seat.gpus) == {"engine": parallel, "learner": 1, "scorer": 0}[seat.actor]
        assert all(0 <= gpu < per_node for gpu in seat.gpus)
    bundles = found.bundles()
    assert sum(len(bundle.gpus) for bundle in bundles) == len({(b.node, gpu) for b in bundles for gpu in b.gpus})


def test_parts_of_a_gpu_share_one() -> None:
    config = on_gpus(rollout={"num_engines": 2, "gpus_per_engine": 0.25}, learner={"gpus": 0.5})
    assert {seat.gpus for seat in place(config).seats if seat.actor != "scorer"} == {(0,)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rollout": {"num_engines": 5}},
            r"no GPU is left for engine 4 on 1 node of 8 GPUs: lower rollout\.num_engines",
        ),
        (
            {"rollout": {"num_engines": 1, "gpus_per_engine": 16, "tensor_parallel_size": 16}},
            r"engine 0 needs 16 GPUs of one node.*rollout\.tensor_parallel_size",
        ),
        ({"cluster": {"gpus_per_node": 0}}, "no GPU is left|needs 1 GPUs"),
    ],
)
def test_what_cannot_be_placed_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        report(on_gpus(**changes))
    assert "\n" not in str(error.value)


def test_too_few_cpus_are_refused() -> None:
    with pytest.raises(ConfigError, match="need .* CPUs, but there are 1"):
        dry_run(load_config(ROOT / "configs/quickstart.yaml"), num_cpus=1, num_gpus=0)


# Memory


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"learner": {"gpus": 1}},
            r"GPU 0 of node 0 \(learner rank 0\) needs .* optimizer: give the learner more",
        ),
        (
            {"learner": {"gradient_checkpointing": False, "tokens_per_micro_batch": 65536}},
            r"activations: set learner\.gradient_checkpointing",
        ),
        ({"learner": {"tokens_per_micro_batch": 262144}}, r"activations: lower learner\.tokens_per_micro_batch"),
        ({"rollout": {"gpu_memory_utilization": 0.15}}, r"must hold 14\.2 GiB of weights.*gpu_memory_utilization"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_setting_to_change(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        report(on_gpus(**changes))
    assert "\n" not in str(error.value)


def test_an_engine_beside_the_resting_learner_must_leave_it_room() -> None:
    config = on_gpus("colocate", rollout={"gpu_memory_utilization": 0.9})
    with pytest.raises(
        ConfigError, match=r"while engines generate.*lower rollout\.gpu_memory_utilization to 0\.\d+"
    ) as e:
        report(config)
    found = re.search(r"to (0\.\d+) or less", str(e.value))
    assert found
    report(on_gpus("colocate", rollout={"gpu_memory_utilization": float(found[1]) - 0.01}))


def test_ranks_cut_the_learners_memory_and_eight_bits_the_optimizers() -> None:
    shape = shape_of(ModelConfig(path="Qwen/Qwen2.5-7B"))
    four, eight = (learner_memory(on_gpus(learner={"gpus": n}), shape) for n in (4, 8))
    assert four.kept["weights"] == pytest.approx(2 * eight.kept["weights"])
    small, large = (
        learner_memory(on_gpus(learner={"gpus": 1, "optimizer": o}), shape) for o in ("adamw_8bit", "adamw")
    )
    assert small.kept["optimizer"] < 0.3 * large.kept["optimizer"]
    whole = learner_memory(on_gpus(learner={"gpus": 4, "parallel": "ddp"}), shape)
    assert whole.kept["weights"] == pytest.approx(4 * four.kept["weights"])


def test_a_critic_of_its_own_is_counted_and_a_shared_one_costs_nothing() -> None:
    tied, untied = (shape_of(ModelConfig(path=f"Qwen/Qwen2.5-{size}")) for size in ("0.5B", "7B"))
    own, shared = (
        learner_memory(on_gpus(learner={"advantage_estimator": "gae", "critic": trunk}), tied).kept
        for trunk in ("own", "shared")
    )
    assert own["critic"] == pytest.approx(own["weights"] + own["optimizer"]) and "critic" not in shared
    large = learner_memory(on_gpus(learner={"advantage_estimator": "gae"}), untied).kept
    assert large["critic"] < 0.95 * (large["weights"] + large["optimizer"]), "its head is a vector"


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("kind", ["Qwen2", "Qwen3"])
def test_the_bytes_of_activations_are_those_that_torch_saves(kind: str, low: bool) -> None:
    import transformers

    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 160}
    if kind == "Qwen3":
        sizes["head_dim"] = 16
    saved = []
    for layers in (1, 3):
        config = getattr(transformers, f"{kind}Config")(vocab_size=32, num_hidden_layers=layers, **sizes)
        model = getattr(transformers, f"{kind}ForCausalLM")(config)
        saved.append(saved_bytes(model, tokens=512, low=low))
    shape = ModelShape(64, 2, 4, 2, 16, 160, 32, True, qk_norm=kind == "Qwen3")
    assert (saved[1] - saved[0]) / 2 / 512 == pytest.approx(layer_bytes(shape, low=low), rel=0.12)


def saved_bytes(model: torch.nn.Module, tokens: int, *, low: bool) -> int:
    """Bytes that a forward pass keeps for the backward pass, beside the weights and their copies of lower precision."""
    kept: dict[int, torch.Tensor] = {}
    shapes = {tuple(p.shape) for p in model.parameters()} | {
        tuple(p.T.shape) for p in model.parameters() if p.dim() == 2
    }

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tuple(tensor.shape) not in shapes:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.arange(tokens)[None] % 32
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=low),
    ):
        model(input_ids=ids, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
