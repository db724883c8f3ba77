"""Datasets as prompts: the four kinds of source, column mapping, bad rows, splits that never overlap."""

from __future__ import annotations

import csv
import datetime
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcs.config import DataConfig
from rlcs.data import check_no_overlap, describe, load_solutions, load_splits, question_id
from rlcs.errors import DataError, RLCSError
from rlcs.types import Prompt, prompt_id

Row = dict[str, Any]
Write = Callable[[Path, Sequence[Row]], str]


def write_jsonl(path: Path, rows: Sequence[Row]) -> str:
    file = path.with_suffix(".jsonl")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def write_csv(path: Path, rows: Sequence[Row]) -> str:
    file = path.with_suffix(".csv")
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(file)


def write_parquet(path: Path, rows: Sequence[Row]) -> str:
    import pyarrow
    import pyarrow.parquet

    file = path.with_suffix(".parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    return str(file)


def write_saved_dataset(path: Path, rows: Sequence[Row]) -> str:
    import datasets

    datasets.disable_progress_bars()
    folder = path / "saved"
    datasets.DatasetDict({"train": datasets.Dataset.from_list(list(rows))}).save_to_disk(str(folder))
    return str(folder)


def write_dataset_folder(path: Path, rows: Sequence[Row]) -> str:
    folder = path / "folder"
    folder.mkdir(parents=True)
    write_jsonl(folder / "train", rows)
    return str(folder)


@pytest.fixture(autouse=True, scope="module")
def _cache_of_datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps what `datasets` prepares out of the user's cache."""
    import datasets.config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


WRITERS = [write_jsonl, write_csv, write_parquet, write_saved_dataset, write_dataset_folder]
ROWS: list[Row] = [{"prompt": f"{n} + 1?", "answer": str(n + 1), "domain": "sums", "tier": n % 5} for n in range(40)]


def load(train: str, seed: int = 0, **options: Any) -> list[Prompt]:
    """The training prompts, nothing held out unless asked."""
    return load_splits(DataConfig(train=train, **{"eval_fraction": 0.0, **options}), seed).train


def refusal(train: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(train, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


def refused_row(path: Path, **values: Any) -> str:
    """The error of a JSONL file whose second row has `values`."""
    row = {"prompt": "a", "answer": "1", **values}
    return refusal(
        write_jsonl(path / "rows", [ROWS[0], {key: value for key, value in row.items() if value is not ...}])
    )


# Sources and columns


@pytest.mark.parametrize("write", WRITERS)
def test_every_source_gives_the_same_prompts(tmp_path: Path, write: Write) -> None:
    prompts = load(write(tmp_path / "rows", ROWS))
    assert len(prompts) == 40
    for row, prompt in zip(ROWS, prompts, strict=True):
        messages = [{"role": "user", "content": row["prompt"]}]
        assert prompt == Prompt(prompt_id(messages, row["answer"]), messages, row["answer"], "sums", row["tier"], {})


@pytest.mark.parametrize("write", WRITERS)
def test_columns_are_mapped_and_the_rest_is_metadata(tmp_path: Path, write: Write) -> None:
    rows = [{"question": "1 + 1?", "gold": "2", "kind": "sums", "level": "2", "source": "book", "page": "7"}] * 2
    columns = {"prompt": "question", "answer": "gold", "domain": "kind", "tier": "level"}
    prompt = load(write(tmp_path / "rows", rows), columns=columns)[0]
    assert (prompt.messages[0]["content"], prompt.answer, prompt.domain, prompt.tier) == ("1 + 1?", "2", "sums", 2)
    assert prompt.metadata == {"source": "book", "page": "7"}


@pytest.mark.parametrize("write", [write_jsonl, write_parquet, write_saved_dataset])
def test_chat_messages_have_the_same_id_in_every_source(tmp_path: Path, write: Write) -> None:
    messages = [
        {"role": "system", "content": "Be brief.", "name": "rules"},
        {"role": "user", "content": "2 + 2?"},
    ]
    prompt = load(write(tmp_path / "rows", [{"prompt": messages, "answer": "4"}]))[0]
    assert prompt.messages == messages, "Parquet's empty fields are left out"
    assert prompt.id == prompt_id(messages, "4")


def test_chat_messages_may_have_parts(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}]
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    prompt = load(write_jsonl(tmp_path / "rows", [{"prompt": messages, "answer": 3, "images": "a.png"}]))[0]
    assert prompt.messages == messages
    assert "'[image] How many?'" in describe(prompt)


def test_numbers_become_text_and_csv_keeps_its_own(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "answer": answer} for i, answer in enumerate([7, -1.5, 10**30])]
    assert [p.answer for p in load(write_jsonl(tmp_path / "rows", rows))] == ["7", "-1.5", str(10**30)]
    (tmp_path / "rows.csv").write_text("prompt,answer\na,007\nb,1.50\nc,true\n")
    assert [p.answer for p in load(str(tmp_path / "rows.csv"))] == ["007", "1.50", "true"]
    assert load(write_parquet(tmp_path / "rows", [{"prompt": "a", "answer": Decimal("1.20")}]))[0].answer == "1.20"


@pytest.mark.parametrize(
    ("tier", "expected"),
    [(0, 0), (4, 4), ("3", 3), ("very hard", 4), ("Easy", 1), (None, None), ("", None), (2.0, 2), (float("nan"), None)],
)
def test_tier_may_be_a_number_a_name_or_nothing(tmp_path: Path, tier: Any, expected: int | None) -> None:
    assert load(write_jsonl(tmp_path / "rows", [{"prompt": "a", "answer": "1", "tier": tier}]))[0].tier == expected


def test_domain_and_tier_are_optional(tmp_path: Path) -> None:
    prompt = load(write_jsonl(tmp_path / "rows", [{"prompt": "a", "answer": "1", "domain": None}]))[0]
    assert (prompt.domain, prompt.tier) == ("default", None)


@pytest.mark.parametrize("write", [write_jsonl, write_csv, write_parquet])
def test_an_answer_is_optional_where_none_is_required(tmp_path: Path, write: Write) -> None:
    with_answers = write(tmp_path / "some", [{"prompt": "a", "answer": "1"}, {"prompt": "b", "answer": ""}])
    assert [prompt.answer for prompt in load(with_answers, answer_required=False)] == ["1", ""]
    assert load(write(tmp_path / "none", [{"prompt": "a"}]), answer_required=False)[0].answer == ""


def test_metadata_is_json_like(tmp_path: Path) -> None:
    row = {"prompt": "a", "answer": "1", "day": datetime.date(2024, 1, 2), "raw": b"\x00\xff", "deep": {"x": [1, None]}}
    metadata = load(write_parquet(tmp_path / "rows", [row]))[0].metadata
    assert metadata == {"day": "2024-01-02", "raw": "AP8=", "deep": {"x": [1, None]}}
    json.dumps(metadata)


def test_their_column_with_one_of_our_names_is_kept_under_another(tmp_path: Path) -> None:
    row = {"prompt": "a", "answer": "long story", "final": "1", "completions": "x"}
    prompt = load(write_jsonl(tmp_path / "rows", [row]), columns={"answer": "final"})[0]
    assert prompt.answer == "1"
    assert prompt.metadata == {"original_answer": "long story", "original_completions": "x"}


def test_system_prompt_is_put_before_and_does_not_change_the_id(tmp_path: Path) -> None:
    own = [{"role": "system", "content": "Own."}, {"role": "user", "content": "b"}]
    file = write_jsonl(tmp_path / "rows", [{"prompt": "a", "answer": "1"}, {"prompt": own, "answer": "1"}])
    with_system, plain = load(file, system_prompt="Think."), load(file)
    assert with_system[0].messages == [{"role": "system", "content": "Think."}, {"role": "user", "content": "a"}]
    assert with_system[1].messages[0] == {"role": "system", "content": "Think.\n\nOwn."}, "templates take one only"
    assert [p.id for p in with_system] == [p.id for p in plain]


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path: Path) -> None:
    text = "\ufeff" + json.dumps(ROWS[0]) + "\r\n\n  \n" + json.dumps(ROWS[1])
    (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
    assert len(load(str(tmp_path / "rows.jsonl"))) == 2
    (tmp_path / "rows.csv").write_text("\ufeffprompt,answer\n\na,1\n\n", encoding="utf-8")
    assert len(load(str(tmp_path / "rows.csv"))) == 1


def test_repeated_prompts_are_dropped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_jsonl(tmp_path / "rows", [ROWS[0], ROWS[1], ROWS[0], ROWS[0]])
    with caplog.at_level(logging.WARNING):
        assert len(load(file)) == 2
    assert "dropped 2 rows that repeat" in caplog.text


# Bad rows


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"prompt": ...}, "no column 'prompt'; it has answer"),
        ({"prompt": None}, "prompt is missing"),
        ({"prompt": "  \n"}, "prompt is empty"),
        ({"prompt": 5}, "prompt must be text or a list of chat messages, but is 5"),
        ({"prompt": []}, "prompt is an empty list"),
        ({"prompt": ["hello"]}, "prompt[0] must be a chat message"),
        ({"prompt": [{"content": "x"}]}, "prompt[0].role must be one of system, developer, user, assistant, tool"),
        ({"prompt": [{"role": "robot", "content": "x"}]}, "but is 'robot'"),
        ({"prompt": [{"role": ["user"], "content": "x"}]}, "prompt[0].role must be one of"),
        ({"prompt": [{"role": "user"}]}, "prompt[0].content must be text or a list of parts, but is missing"),
        ({"prompt": [{"role": "user", "content": []}]}, "prompt[0].content is an empty list"),
        ({"prompt": [{"role": "user", "content": ["x"]}]}, 'prompt[0].content[0] must be a part {"type": ...}'),
        ({"prompt": [{"role": "user", "content": [{"type": "text"}]}]}, "is of type text, but has no text"),
        ({"prompt": [{"role": "user", "content": " "}]}, "its last message has no text"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, "must end with a message of the user"),
        ({"prompt": "\ud800"}, "prompt is not valid Unicode"),
        ({"answer": ...}, "no column 'answer'; it has prompt"),
        ({"answer": None}, "answer is missing"),
        ({"answer": ""}, "answer is empty"),
        ({"answer": True}, "answer must be text or a number, but is the boolean true"),
        ({"answer": [1]}, "answer must be text or a number, but is a list"),
        ({"answer": {"value": 1}}, "answer must be text or a number, but is a mapping"),
        ({"answer": float("nan")}, "answer must be text or a finite number, but is nan"),
        ({"answer": "\udfff"}, "answer is not valid Unicode"),
        ({"domain": ["x"]}, "domain must be text, but is a list"),
        ({"tier": 5}, "tier must be 0 (very easy) to 4 (very hard), but is 5"),
        ({"tier": -1}, "but is -1"),
        ({"tier": 1.5}, "but is 1.5"),
        ({"tier": "brutal"}, "but is 'brutal'"),
        ({"tier": True}, "but is the boolean true"),
        ({"extra": "\ud800"}, "extra is not valid Unicode"),
    ],
)
def test_bad_row_is_refused_with_its_line_and_reason(tmp_path: Path, values: Row, expected: str) -> None:
    message = refused_row(tmp_path, **values)
    assert f"rows.jsonl, line 2: {expected}" in message or ("rows.jsonl, line 2: " in message and expected in message)
    assert "data.on_bad_row=skip" in message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{oops", "line 2: not JSON: Expecting property name"),
        (b"[1, 2]", "line 2: not a JSON object"),
        (b'"text"', "line 2: not a JSON object"),
        (b'{"prompt": "\xff", "answer": 1}', "line 2: not UTF-8 text"),
        (b'{"prompt": "x", "answer": ' + b"9" * 5000 + b"}", "line 2: not usable JSON"),
        (b"[" * 100_000, "line 2: not usable JSON"),
        (b'{"prompt": "x", "answer": 1, "deep": ' + b"[" * 200 + b"]" * 200 + b"}", "deep is nested too deeply"),
    ],
)
def test_malformed_json_line_is_refused_with_its_number(tmp_path: Path, line: bytes, expected: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(json.dumps(ROWS[0]).encode() + b"\n" + line + b"\n")
    assert expected in refusal(str(file))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prompt,answer\na,1\nb\n", "row 2: has 1 fields, but the header has 2 (line 3)"),
        ("prompt,answer\na,1\nb,2,3\n", "row 2: has 3 fields"),
        ('prompt,answer\n"a\nb",1\nc,""\n', "row 2: answer is empty"),
        ('prompt,answer\na,1\n"b,2\nc,3\n', "row 2: not CSV: unexpected end of data (lines 3 to 4)"),
        ("prompt,answer,prompt\na,1,b\n", "column 'prompt' is there twice"),
        ("", "is empty: a CSV file begins with a line of column names"),
        ("prompt,answer\n", "is empty: it has no rows"),
    ],
)
def test_malformed_csv(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(text)
    assert expected in refusal(str(file))


def test_csv_row_that_is_no_utf8_is_that_row_only(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"prompt,answer\na,1\n\xff,2\nc,3\n")
    assert "row 2: not UTF-8 text (line 3)" in refusal(str(file))
    assert [p.answer for p in load(str(file), on_bad_row="skip")] == ["1", "3"]


def test_parquet_row_that_is_no_utf8_is_that_row_only(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    text = pyarrow.array([b"a", b"\xff", b"c"]).view(pyarrow.string())
    table = pyarrow.table({"prompt": text, "answer": ["1", "2", "3"]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    assert "row 2: a value cannot be read" in refusal(str(tmp_path / "rows.parquet"))
    assert [p.answer for p in load(str(tmp_path / "rows.parquet"), on_bad_row="skip")] == ["1", "3"]


@pytest.mark.parametrize("write", [write_jsonl, write_parquet, write_saved_dataset])
def test_skipped_rows_are_counted_with_the_first_reasons(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, write: Write
) -> None:
    rows = [dict(row, answer=None) if n % 8 == 3 else row for n, row in enumerate(ROWS)]
    with caplog.at_level(logging.WARNING):
        prompts = load(write(tmp_path / "rows", rows), on_bad_row="skip")
    assert len(prompts) == 35
    assert "skipped 5 bad rows of 40: " in caplog.text
    unit = "line" if write is write_jsonl else "row"
    assert (
        f"{unit} 4: answer is missing; {unit} 12: answer is missing; {unit} 20: answer is missing; ..." in caplog.text
    )


def test_row_numbers_go_on_over_batches(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "answer": "x" if n != 2500 else ""} for n in range(3000)]
    assert "row 2501: answer is empty" in refusal(write_parquet(tmp_path / "rows", rows))


def test_all_rows_bad_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows", [{"prompt": "a", "answer": None}] * 3)
    assert "all 3 rows are bad; line 1: answer is missing" in refusal(file, on_bad_row="skip")


# Datasets that cannot be used


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
def test_missing_column_names_those_that_exist_and_how_to_map(tmp_path: Path, write: Write, on_bad_row: str) -> None:
    message = refusal(write(tmp_path / "rows", [{"question": "a", "answer": "1"}]), on_bad_row=on_bad_row)
    assert "no column 'prompt'; it has question, answer" in message
    assert "data.columns.prompt=question" in message


@pytest.mark.parametrize("write", WRITERS)
def test_mapped_column_that_is_in_no_row_is_an_error(tmp_path: Path, write: Write) -> None:
    message = refusal(write(tmp_path / "rows", ROWS), columns={"tier": "level"})
    assert "no column 'level'; it has prompt, answer, domain, tier" in message


def test_column_names_cannot_break_the_line_or_control_the_terminal(tmp_path: Path) -> None:
    message = refusal(write_jsonl(tmp_path / "rows", [{"a\nb": 1, "\x1b[31m": 2, "\ud800": 3}]))
    assert r"it has a\nb, \x1b[31m, \ud800." in message


def test_empty_dataset(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n\n")
    assert "rows.jsonl is empty: it has no rows" in refusal(str(tmp_path / "rows.jsonl"))
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema({"prompt": pyarrow.string(), "answer": pyarrow.string()})
    pyarrow.parquet.write_table(schema.empty_table(), tmp_path / "rows.parquet")
    assert "rows.parquet is empty" in refusal(str(tmp_path / "rows.parquet"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gone.jsonl", "data.train: there is no file"),
        ("a/b/c/gone", "data.train: there is no file"),
        ("rows.txt", "its name must end in .jsonl, .parquet or .csv"),
        ("folder.jsonl", "is a folder, not a file"),
        ("bad.parquet", "is no Parquet file that can be read"),
    ],
)
def test_file_that_cannot_be_read(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "rows.txt").write_text("x")
    (tmp_path / "bad.parquet").write_text("x" * 100)
    (tmp_path / "folder.jsonl").mkdir()
    assert expected in refusal(str(tmp_path / name))


def test_damaged_parquet_page_says_after_which_row(tmp_path: Path) -> None:
    file = Path(write_parquet(tmp_path / "rows", ROWS))
    data = bytearray(file.read_bytes())
    data[4:40] = b"\xff" * 36
    file.write_bytes(bytes(data))
    assert "rows.parquet" in refusal(str(file), on_bad_row="skip")


def test_unknown_split_is_named(tmp_path: Path) -> None:
    file = write_saved_dataset(tmp_path / "rows", ROWS)
    assert "has no split 'validation'; it has train" in refusal(file, train_split="validation")
    folder = write_dataset_folder(tmp_path / "rows", ROWS)
    assert "split validation, cannot be loaded" in refusal(folder, train_split="validation")


def test_hub_name_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = refusal("no-such-user/no-such-dataset")
    assert "dataset no-such-user/no-such-dataset, split train, cannot be loaded" in message
    assert "no file of that name is here" in message


# Splits


def split(file: str, seed: int = 0, **options: Any) -> tuple[set[str], set[str]]:
    splits = load_splits(DataConfig(train=file, **options), seed)
    return {p.id for p in splits.train}, {p.id for p in splits.eval}


def many_rows(count: int) -> list[Row]:
    return [{"prompt": f"question {n}", "answer": str(n)} for n in range(count)]


def test_split_is_seeded_stable_and_of_about_the_asked_size(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows", many_rows(2000))
    train, held_out = split(file, eval_fraction=0.2)
    assert (train, held_out) == split(file, eval_fraction=0.2)
    assert not train & held_out
    assert len(train) + len(held_out) == 2000
    assert 320 <= len(held_out) <= 480
    assert split(file, seed=1, eval_fraction=0.2)[1] != held_out


def test_rows_added_later_do_not_move_the_others(tmp_path: Path) -> None:
    before = split(write_jsonl(tmp_path / "a", many_rows(300)))
    after = split(write_jsonl(tmp_path / "b", many_rows(600)[::-1]))
    assert before[0] <= after[0] and before[1] <= after[1]


def test_one_question_with_several_answers_is_on_one_side(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n // 3}", "answer": str(n)} for n in range(600)]
    splits = load_splits(DataConfig(train=write_jsonl(tmp_path / "rows", rows), eval_fraction=0.3), 0)
    sides = [{question_id(p) for p in side} for side in (splits.train, splits.eval)]
    assert not sides[0] & sides[1]
    assert len(splits.train) + len(splits.eval) == 600


@settings(deadline=None, max_examples=40)
@given(count=st.integers(2, 6), fraction=st.floats(0.0, 0.999), seed=st.integers(0, 1000))
def test_small_dataset_has_prompts_on_both_sides(
    tmp_path_factory: pytest.TempPathFactory, count: int, fraction: float, seed: int
) -> None:
    file = write_jsonl(tmp_path_factory.mktemp("data") / "rows", many_rows(count))
    train, held_out = split(file, seed=seed, eval_fraction=fraction)
    assert train and not train & held_out and len(train) + len(held_out) == count
    assert bool(held_out) == (fraction > 0)


def test_single_question_is_trained_on(tmp_path: Path) -> None:
    train, held_out = split(write_jsonl(tmp_path / "rows", many_rows(1)))
    assert len(train) == 1 and not held_out


def test_given_held_out_set_is_used(tmp_path: Path) -> None:
    rows = many_rows(30)
    train, held_out = split(write_jsonl(tmp_path / "a", rows[:20]), eval=write_csv(tmp_path / "b", rows[20:]))
    assert (len(train), len(held_out)) == (20, 10)


def test_held_out_prompt_in_the_training_set_is_refused(tmp_path: Path) -> None:
    rows = many_rows(20)
    files = write_jsonl(tmp_path / "a", rows), write_jsonl(tmp_path / "b", rows[5:8])
    message = refusal(files[0], eval=files[1])
    assert "3 prompts of data.train are in data.eval too, the first " in message
    assert "('question 5')" in message


def test_same_question_with_another_answer_is_an_overlap(tmp_path: Path) -> None:
    files = (
        write_jsonl(tmp_path / "a", many_rows(5)),
        write_jsonl(tmp_path / "b", [{"prompt": "question 1", "answer": "x"}]),
    )
    assert "1 prompts of data.train are in data.eval too" in refusal(files[0], eval=files[1])


def test_overlap_is_taken_out_of_training_when_skipping(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = many_rows(20)
    files = write_jsonl(tmp_path / "a", rows), write_jsonl(tmp_path / "b", rows[5:8])
    with caplog.at_level(logging.WARNING):
        train, held_out = split(files[0], eval=files[1], on_bad_row="skip")
    assert (len(train), len(held_out)) == (17, 3) and not train & held_out
    assert "3 prompts of data.train are in data.eval too" in caplog.text
    assert "nothing left to train on" in refusal(files[1], eval=files[0], on_bad_row="skip")


def test_check_no_overlap_counts_and_names_the_first() -> None:
    prompts = [Prompt(str(n), [{"role": "user", "content": "long " * 40}], "1") for n in range(4)]
    check_no_overlap(prompts[:2], prompts[2:])
    with pytest.raises(
        DataError, match=r"2 held-out prompts are training prompts too, the first 1 \('long .*\.\.\.'\)"
    ):
        check_no_overlap(prompts[:3], prompts[1:])


# Solutions

SOLVED = [{**row, "solution": f"<think>..</think>{row['answer']}" if n % 2 else None} for n, row in enumerate(ROWS)]


def test_solutions_are_the_rows_that_have_one(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows", SOLVED)
    found = load_solutions(DataConfig(train=file), None)
    assert len(found) == 20
    assert found[0][0].answer == "2" and found[0][1] == "<think>..</think>2"
    assert "solution" not in found[0][0].metadata


def test_solutions_of_held_out_questions_are_left_out(tmp_path: Path) -> None:
    config = DataConfig(train=write_jsonl(tmp_path / "rows", SOLVED), eval_fraction=0.5)
    held_out = load_splits(config, 0).eval
    found = load_solutions(config, None, held_out)
    assert 0 < len(found) < 20
    assert not {p.id for p, _ in found} & {p.id for p in held_out}


def test_solutions_may_come_from_a_file_of_their_own_with_several_a_prompt(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "answer": "1", "rationale": text} for text in ("one", "two")]
    config = DataConfig(train=write_jsonl(tmp_path / "t", ROWS), columns={"solution": "rationale", "tier": "level"})
    assert [text for _, text in load_solutions(config, write_parquet(tmp_path / "s", rows))] == ["one", "two"]


def test_no_solution_anywhere_is_an_error(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows", ROWS)
    for source in (file, write_parquet(tmp_path / "rows", ROWS)):
        with pytest.raises(DataError, match="no (row has a solution|column 'solution')"):
            load_solutions(DataConfig(train=source), None)
    with pytest.raises(DataError, match=r"sft\.solutions is not given"):
        load_solutions(DataConfig(env="x", tasks=[{"task": "y"}]), None)


def test_solution_of_another_type_is_a_bad_row(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows", [{**ROWS[0], "solution": "x"}, {**ROWS[1], "solution": 5}])
    with pytest.raises(DataError, match="line 2: solution must be text, but is 5"):
        load_solutions(DataConfig(train=file), None)


# Hostile files


def _load_any(file: Path, on_bad_row: str) -> None:
    try:
        prompts = load(str(file), on_bad_row=on_bad_row)
    except RLCSError as error:
        assert str(error) and "\n" not in str(error)
    else:
        for prompt in prompts:
            json.dumps([prompt.messages, prompt.answer, prompt.metadata], ensure_ascii=False).encode()


@settings(deadline=None)
@given(
    data=st.binary(max_size=120),
    suffix=st.sampled_from(["jsonl", "csv", "parquet"]),
    mode=st.sampled_from(["error", "skip"]),
)
def test_any_bytes_are_prompts_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str, mode: str
) -> None:
    file = tmp_path_factory.mktemp("fuzz") / f"rows.{suffix}"
    head = b"prompt,answer\na,1\n" if suffix == "csv" else b""
    file.write_bytes(head + data)
    _load_any(file, mode)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_message = st.dictionaries(st.sampled_from(["role", "content", "type", "text"]), _json | st.just("user"), max_size=4)
_rows = st.fixed_dictionaries(
    {},
    optional={
        "prompt": _json | st.lists(_message, max_size=3) | st.just("a"),
        "answer": _json | st.just("1"),
        "domain": _json,
        "tier": _json | st.integers(0, 4),
        "extra": _json,
    },
)


@settings(deadline=None)
@given(rows=st.lists(_json | _rows, max_size=6), mode=st.sampled_from(["error", "skip"]))
def test_any_json_rows_are_prompts_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], mode: str
) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _load_any(file, mode)


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=1, max_size=40))
def test_no_row_is_lost_without_being_counted(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[bool, int]]
) -> None:
    """Rows = prompts + bad rows + repeated rows."""
    file = tmp_path_factory.mktemp("count") / "rows.jsonl"
    file.write_text(
        "".join(json.dumps({"prompt": f"p{n}", "answer": "1" if good else None}) + "\n" for good, n in rows)
    )
    distinct = {n for good, n in rows if good}
    if not distinct:
        with pytest.raises(DataError, match="rows are bad"):
            load(str(file), on_bad_row="skip")
        return
    assert len(load(str(file), on_bad_row="skip")) == len(distinct)
