import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.errors import OptionError, WorkloadError
from advisor.types import Message, Prompt, Workload
from advisor.workload import MAX_FILE_BYTES, builtin, content_hash, read_workload, select

CATEGORIES = {"code", "math", "chat", "prose", "summarise", "extraction", "translation"}


def write(tmp_path: Path, content: str | bytes, name: str = "prompts.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def asked(workload: Workload) -> list[str]:
    return [prompt.messages[-1].content for prompt in workload.prompts]


class TestBuiltIn:
    def test_has_at_least_four_prompts_of_every_category(self) -> None:
        counts = Counter(prompt.category for prompt in builtin().prompts)
        assert set(counts) == CATEGORIES
        assert min(counts.values()) >= 4

    def test_every_prefix_is_balanced_over_the_categories(self) -> None:
        categories = [prompt.category for prompt in builtin().prompts]
        for length in range(1, len(categories) + 1):
            counts = Counter(categories[:length])
            assert max(counts.values()) - min(counts.get(category, 0) for category in CATEGORIES) <= 1

    def test_prompts_differ_and_have_a_realistic_size(self) -> None:
        texts = asked(builtin())
        assert len(set(texts)) == len(texts)
        assert all(100 <= len(text) <= 1500 for text in texts)

    def test_tasks_on_a_passage_carry_the_passage(self) -> None:
        assert all(len(text) > 500 for text in asked(builtin(["summarise"])))

    def test_categories_select_prompts_and_change_the_hash(self) -> None:
        chosen = builtin(["math", "code"])
        assert {prompt.category for prompt in chosen.prompts} == {"math", "code"}
        assert chosen.content_hash != builtin().content_hash

    def test_unknown_category_names_the_known_ones(self) -> None:
        with pytest.raises(OptionError, match=r"--category.*'poetry'") as caught:
            builtin(["poetry"])
        assert "summarise" in caught.value.why


class TestReading:
    def test_prompts_messages_and_categories(self, tmp_path: Path) -> None:
        path = write(
            tmp_path,
            '{"prompt": "one", "category": "code"}\n'
            '{"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "two"}], "id": 7}\n',
        )
        assert read_workload(path).prompts == (
            Prompt((Message("user", "one"),), "code"),
            Prompt((Message("system", "be brief"), Message("user", "two")), "general"),
        )

    def test_byte_order_mark_windows_line_ends_and_blank_lines(self, tmp_path: Path) -> None:
        path = write(tmp_path, b'\xef\xbb\xbf\r\n{"prompt": "one"}\r\n\r\n  \r\n{"prompt": "two"}')
        assert asked(read_workload(path)) == ["one", "two"]

    def test_plain_text_is_one_prompt_per_line(self, tmp_path: Path) -> None:
        path = write(tmp_path, "Why is the sky blue?\r\n\r\n  Ünïcode, s'il vous plaît \n[not json]", "prompts.txt")
        assert asked(read_workload(path)) == ["Why is the sky blue?", "Ünïcode, s'il vous plaît", "[not json]"]

    def test_json_lines_are_recognised_without_the_extension(self, tmp_path: Path) -> None:
        assert asked(read_workload(write(tmp_path, '\n {"prompt": "one"}\n', "prompts.txt"))) == ["one"]

    def test_a_line_separator_inside_a_prompt_does_not_end_the_line(self, tmp_path: Path) -> None:
        assert asked(read_workload(write(tmp_path, '{"prompt": "a\u2028b\x85c"}'))) == ["a\u2028b\x85c"]

    def test_the_hash_follows_the_prompts_not_the_file(self, tmp_path: Path) -> None:
        one = read_workload(write(tmp_path, '{"prompt": "caf\\u00e9"}\n', "a.jsonl"))
        same = read_workload(write(tmp_path, '\n{ "category": "general", "prompt": "café" }', "b.jsonl"))
        other = read_workload(write(tmp_path, '{"prompt": "cafe"}', "c.jsonl"))
        assert one.content_hash == same.content_hash != other.content_hash
        assert (one.name, same.name) == ("a.jsonl", "b.jsonl")

    def test_select_keeps_the_name_and_the_order(self, tmp_path: Path) -> None:
        lines = [json.dumps({"prompt": f"p{i}", "category": "ab"[i % 2]}) for i in range(5)]
        workload = select(read_workload(write(tmp_path, "\n".join(lines))), ["b"])
        assert asked(workload) == ["p1", "p3"]
        assert workload.name == "prompts.jsonl"


MALFORMED = [
    ("not json", "not a JSON object"),
    ("[1, 2]", "a list"),
    ('"prompt"', "a string"),
    ("{}", "either"),
    ('{"prompt": "a", "messages": [{"role": "user", "content": "b"}]}', "not both"),
    ('{"prompt": 5}', "a number"),
    ('{"prompt": "  "}', "empty"),
    ('{"prompt": "a\\u0000b"}', "zero byte"),
    ('{"prompt": "\\ud800"}', "surrogate"),
    ('{"prompt": "a", "category": 3}', '"category" is a number'),
    ('{"prompt": "a", "category": ""}', '"category" is empty'),
    ('{"messages": []}', "at least one"),
    ('{"messages": "hello"}', "list"),
    ('{"messages": ["hello"]}', "messages[0] is a string"),
    ('{"messages": [{"role": "wizard", "content": "a"}]}', "system, user, assistant"),
    ('{"messages": [{"role": "user"}]}', "missing"),
    ('{"messages": [{"role": "user", "content": [{"type": "text"}]}]}', "a list"),
    ('{"messages": [{"role": "assistant", "content": "a"}]}', "last message"),
    ('{"prompt": "unfinished', "column"),
    ("[" * 100_000, "not"),
    ('{"prompt": "a", "n": ' + "9" * 5000 + "}", "not JSON that can be read"),
]


class TestBadInput:
    @pytest.mark.parametrize(("line", "problem"), MALFORMED, ids=[problem for _, problem in MALFORMED])
    def test_a_malformed_line_is_named_with_its_problem(self, tmp_path: Path, line: str, problem: str) -> None:
        path = write(tmp_path, '{"prompt": "fine"}\n\n' + line + '\n{"prompt": "fine"}\n')
        with pytest.raises(WorkloadError) as caught:
            read_workload(path)
        assert str(path) in caught.value.what
        assert "line 3" in caught.value.what
        assert problem in caught.value.why
        assert caught.value.fix

    @pytest.mark.parametrize("content", ["", "\n \r\n", "\ufeff"])
    def test_an_empty_file(self, tmp_path: Path, content: str) -> None:
        path = write(tmp_path, content)
        with pytest.raises(WorkloadError, match="no prompts") as caught:
            read_workload(path)
        assert str(path) in caught.value.what

    def test_not_utf8_names_the_line(self, tmp_path: Path) -> None:
        with pytest.raises(WorkloadError, match="not UTF-8") as caught:
            read_workload(write(tmp_path, b"one\r\ntwo\nca\xe9\n", "latin.txt"))
        assert "Line 3" in caught.value.why

    def test_utf16_is_called_by_its_name(self, tmp_path: Path) -> None:
        with pytest.raises(WorkloadError, match="UTF-16"):
            read_workload(write(tmp_path, "hello".encode("utf-16"), "windows.txt"))

    def test_a_binary_file(self, tmp_path: Path) -> None:
        with pytest.raises(WorkloadError, match="binary"):
            read_workload(write(tmp_path, b"GGUF\x03\0\0\0", "model.gguf"))

    def test_a_directory_and_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(WorkloadError, match="is a directory"):
            read_workload(tmp_path)
        with pytest.raises(WorkloadError, match="does not exist"):
            read_workload(tmp_path / "none.jsonl")

    def test_a_file_that_is_too_large(self, tmp_path: Path) -> None:
        path = tmp_path / "large.txt"
        with path.open("wb") as stream:
            stream.truncate(MAX_FILE_BYTES + 1)  # sparse: takes no room on the disk
        with pytest.raises(WorkloadError, match="too large"):
            read_workload(path)


texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1).filter(str.strip)
messages = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts)
prompts = st.builds(
    lambda before, last, category: Prompt((*before, Message("user", last)), category),
    st.lists(messages, max_size=3),
    texts,
    texts.map(str.strip),
)


@given(st.lists(prompts, min_size=1, max_size=8), st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[Prompt], ascii_only: bool, line_end: str
) -> None:
    lines = [
        json.dumps(
            {"messages": [{"role": m.role, "content": m.content} for m in p.messages], "category": p.category},
            ensure_ascii=ascii_only,
        )
        for p in wanted
    ]
    path = tmp_path_factory.getbasetemp() / "round-trip.jsonl"
    path.write_bytes(line_end.join(lines).encode("utf-8"))
    workload = read_workload(path)
    assert workload.prompts == tuple(wanted)
    assert workload.content_hash == content_hash(wanted)
