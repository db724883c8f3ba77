"""What stands between two turns: appended to what was sampled, by any chat template."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlcs.errors import DataError
from rlcs.models import build_tokenizer, load_tokenizer
from rlcs.turns import TurnTemplate, message_content

PROMPT = [{"role": "user", "content": "What is 1 + 1?"}]
TOLD = [{"type": "text", "text": "Error: 3"}]

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}{{ message.content.split('</think>')[-1] }}{% else %}{{ message.content }}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_the_end_of_a_turn_is_put_there_only_where_the_policy_did_not(tiny_policy: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_policy))
    template = TurnTemplate(tokenizer)
    cut = template.between(PROMPT, TOLD, last_token=7)
    ended = template.between(PROMPT, TOLD, last_token=tokenizer.eos_token_id)
    assert cut.text == "<|endoftext|><|user|>Error: 3<|assistant|>"
    assert ended.text == "<|user|>Error: 3<|assistant|>"
    assert cut.token_ids == [tokenizer.eos_token_id, *ended.token_ids]
    assert tokenizer.decode(ended.token_ids, skip_special_tokens=False) == ended.text


def test_a_conversation_is_what_the_template_would_make_of_it(tiny_policy: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_policy))
    messages = [*PROMPT, {"role": "assistant", "content": "3"}, {"role": "user", "content": "Error: 3"}]
    whole = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    first = tokenizer.apply_chat_template(PROMPT, add_generation_prompt=True, tokenize=True, return_dict=False)
    sampled = [*tokenizer.encode("3", add_special_tokens=False), tokenizer.eos_token_id]
    assert [*first, *sampled, *TurnTemplate(tokenizer).between(PROMPT, TOLD, sampled[-1]).token_ids] == whole


def test_templates_that_cut_earlier_thinking_are_no_problem() -> None:
    marks = ("<|im_start|>", "<|im_end|>")
    tokenizer = build_tokenizer(["user assistant Error 3"] * 60, 330, marks, CHATML)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    between = TurnTemplate(tokenizer).between(PROMPT, TOLD, end)
    assert between.text == "\n<|im_start|>user\nError: 3<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("template", ["{{ messages[-1].content }}", "{{ raise_exception('one turn only') }}"])
def test_templates_for_a_single_turn_are_refused(template: str) -> None:
    tokenizer = build_tokenizer(["a"] * 60, 330, (), template)
    with pytest.raises(DataError, match="chat template"):
        TurnTemplate(tokenizer).between(PROMPT, TOLD, None)


def test_parts_of_text_alone_are_a_text() -> None:
    assert message_content([*TOLD, {"type": "text", "text": "again"}]) == "Error: 3\nagain"
    assert message_content([{"type": "image"}, *TOLD]) == [{"type": "image"}, *TOLD]
