"""The reward model as a reward: what it reads, what it refuses, and that its values are comparable."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlcs.errors import RewardError
from rlcs.response_format import BOX_CLOSE, BOX_OPEN
from rlcs.rewards.classifier import encode_chat, load_classifier
from rlcs.rewards.loading import load_reward
from rlcs.rewards.reward_model import CALIBRATION_FILE, RewardModel
from rlcs.types import Score

ROW = {"messages": [{"role": "user", "content": "What is 3 + 4?"}]}
ANSWERS = ["7", "The answer is 7.", "I do not know " * 9, "seven", "What is 3?", "x" * 60]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model_folder(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny reward model with a random head."""
    import torch
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("reward") / "model"
    torch.manual_seed(0)
    model = load_classifier(str(tiny_policy), need_head=False)
    torch.nn.init.normal_(model.score.weight)  # the usual initialisation hardly tells answers apart
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_policy).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reward(model_folder: Path) -> Iterator[RewardModel]:
    reward = RewardModel(str(model_folder), batch_size=4)
    reward.setup()
    yield reward
    reward.close()


@pytest.fixture
def changed(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may change."""
    shutil.copytree(model_folder, tmp_path / "model")
    return tmp_path / "model"


def response(answer: str, thinking: str = "so") -> str:
    return f"<think>{thinking}</think><answer>{answer}</answer>"


def scores_of(reward: RewardModel, *completions: str, row: dict[str, Any] = ROW) -> list[Score]:
    scores = reward.score_batch(completions, ["-"] * len(completions), [row] * len(completions))
    return [score for score in scores if score is not None]


def values_of(reward: RewardModel, *completions: str, row: dict[str, Any] = ROW) -> list[float]:
    return [score.value for score in scores_of(reward, *completions, row=row)]


def test_values_differ_and_lie_between_zero_and_one(reward: RewardModel) -> None:
    scores = scores_of(reward, *map(response, ANSWERS))
    assert len({score.value for score in scores}) == len(ANSWERS)
    assert all(0.0 < score.value < 1.0 and score.correct is None for score in scores)
    assert "logit" in scores[0].detail


def test_a_batch_gives_what_single_answers_get(reward: RewardModel) -> None:
    completions = [response(answer) for answer in ANSWERS]
    alone = [values_of(reward, completion)[0] for completion in completions]
    assert values_of(reward, *completions) == pytest.approx(alone, abs=1e-5)
    assert values_of(reward, *reversed(completions)) == pytest.approx(alone[::-1], abs=1e-5)


def test_equal_answers_get_equal_values_wherever_they_stand(reward: RewardModel) -> None:
    values = values_of(reward, *(response(answer, f"thought {n}") for n in range(5) for answer in ANSWERS))
    assert values == values[: len(ANSWERS)] * 5


def test_only_the_answer_segment_and_the_conversation_are_read(reward: RewardModel) -> None:
    first, other_thinking, bare = values_of(reward, response("7"), response("7", "something else"), "7")
    assert first == other_thinking == bare
    (other_question,) = values_of(reward, response("7"), row={"question": "What is 9 + 9?"})
    assert other_question != first


@pytest.mark.parametrize(
    ("completion", "event"),
    [
        ("", "format_empty_response"),
        ("<think>7", "format_unclosed_thinking"),
        (response("  "), "format_empty_answer"),
        (response(f"{BOX_OPEN}7{BOX_CLOSE}"), "format_box_in_open_answer"),
        (response("7<|endoftext|>"), "format_special_token"),
        (response("7<|user|>Well done!<|assistant|>Thanks"), "format_special_token"),
    ],
)
def test_broken_formats_boxes_and_special_tokens_get_the_minimum(
    reward: RewardModel, completion: str, event: str
) -> None:
    reward.take_counts()
    good, broken = scores_of(reward, response("7"), completion)
    assert good.value > 0.0
    assert broken.value == 0.0
    assert broken.detail
    assert reward.take_counts() == {event: 1}


def test_images_are_left_out_of_the_conversation(reward: RewardModel) -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "What is 3 + 4?"}]
    with_image = {"messages": [{"role": "user", "content": parts}]}
    assert values_of(reward, response("7"), row=with_image) == values_of(reward, response("7"))


def test_long_conversations_are_cut_at_the_front(model_folder: Path) -> None:
    reward = RewardModel(str(model_folder), max_length=20)
    long = {"messages": [{"role": "user", "content": "x " * 500 + "What is 3 + 4?"}]}
    longer = {"messages": [{"role": "user", "content": "y " * 900 + "x " * 500 + "What is 3 + 4?"}]}
    assert values_of(reward, response("7"), row=long) == values_of(reward, response("7"), row=longer)
    unlimited = RewardModel(str(model_folder), max_length=100_000)
    assert len(values_of(unlimited, response("7 " * 2000))) == 1  # cut to the model's context


def test_an_encoder_with_a_short_context_will_do(tiny_policy: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(tiny_policy)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(
        vocab_size=512, max_position_embeddings=40, initializer_range=0.5, num_labels=1, pad_token_id=0, **shape
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    reward = RewardModel(str(tmp_path), batch_size=4)
    completions = [response(answer) for answer in ANSWERS]
    together = values_of(reward, *completions)
    assert together == pytest.approx([values_of(reward, one)[0] for one in completions], abs=1e-5)
    assert len(set(together)) == len(ANSWERS)


def test_the_calibration_maps_logits_to_values(changed: Path) -> None:
    plain = scores_of(RewardModel(str(changed)), *map(response, ANSWERS))
    (changed / CALIBRATION_FILE).write_text('{"offset": 1.5, "scale": 0.25}')
    calibrated = values_of(RewardModel(str(changed)), *map(response, ANSWERS))
    logits = [math.log(score.value / (1 - score.value)) for score in plain]
    assert calibrated == pytest.approx([1 / (1 + math.exp(-(x - 1.5) / 0.25)) for x in logits], abs=1e-4)
    overridden = values_of(RewardModel(str(changed), offset=0.0, scale=1.0), *map(response, ANSWERS))
    assert overridden == [score.value for score in plain]


def test_extreme_logits_stay_in_range(changed: Path) -> None:
    for offset in (1e30, -1e30):
        (value,) = values_of(RewardModel(str(changed), offset=offset, scale=1e-30), response("7"))
        assert value == pytest.approx(0.0 if offset > 0 else 1.0)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"offset": "a", "scale": 1}', '{"offset": 0, "scale": 0}', "[" * 9999]
)
def test_a_damaged_calibration_is_an_error(changed: Path, text: str) -> None:
    (changed / CALIBRATION_FILE).write_text(text)
    with pytest.raises(RewardError, match=CALIBRATION_FILE):
        RewardModel(str(changed))


def test_logits_that_are_no_numbers_are_an_error(changed: Path) -> None:
    model = load_classifier(str(changed), need_head=True)
    model.score.weight.data[:] = math.nan
    model.save_pretrained(changed)
    with pytest.raises(RewardError, match="logit nan"):
        scores_of(RewardModel(str(changed)), response("7"))


def test_what_is_no_reward_model_is_refused(tiny_policy: Path, changed: Path, tmp_path: Path) -> None:
    with pytest.raises(RewardError, match=r"set reward\.model\.path"):
        load_reward("reward_model")
    with pytest.raises(RewardError, match="there is no folder"):
        RewardModel(str(tmp_path / "nowhere"))
    with pytest.raises(RewardError, match="is no model folder"):
        RewardModel(str(tmp_path))
    with pytest.raises(RewardError, match="no sequence classification model"):
        RewardModel(str(tiny_policy))
    with pytest.raises(RewardError, match="must be above 0"):
        RewardModel(str(changed), batch_size=0)
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps(config | {"architectures": None}))
    (changed / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(RewardError, match="cannot be loaded"):
        load_reward("reward_model", options={"path": str(changed)}).setup()


def test_a_model_without_a_head_is_refused(tiny_policy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "headless"
    shutil.copytree(tiny_policy, folder)
    config = json.loads((folder / "config.json").read_text()) | {
        "architectures": ["Qwen2ForSequenceClassification"],
        "id2label": {"0": "x"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RewardError, match=r"no weights for score\.weight"):
        RewardModel(str(folder)).setup()


def test_a_model_with_two_labels_is_refused(tiny_policy: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    AutoModelForSequenceClassification.from_pretrained(tiny_policy, num_labels=2).save_pretrained(tmp_path / "two")
    AutoTokenizer.from_pretrained(tiny_policy).save_pretrained(tmp_path / "two")
    with pytest.raises(RewardError, match="2 labels"):
        RewardModel(str(tmp_path / "two")).setup()


def test_a_tokenizer_without_a_template_reads_plain_text(tiny_policy: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_policy)
    tokenizer.chat_template = None
    ids = encode_chat(tokenizer, ROW["messages"], "7", None)
    assert tokenizer.decode(ids) == "What is 3 + 4?\n7<|endoftext|>"
    assert encode_chat(tokenizer, ROW["messages"], "7", 3) == ids[-3:]


def test_importing_it_imports_nothing_heavy() -> None:
    program = (
        "import sys, rlcs.rewards.reward_model, rlcs.rewards.judge, rlcs.reward_model_config\n"
        "heavy = {'torch', 'transformers', 'datasets', 'ray', 'vllm', 'trl', 'openai', 'sympy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
