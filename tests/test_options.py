import os
from pathlib import Path
from typing import Any

import pytest

from advisor.errors import FileProblem, OptionError
from advisor.options import (
    PriorQuestion,
    draft_files,
    duration_s,
    is_file_argument,
    prior_question,
    refuse_for_prediction,
    settings,
    target_file,
)

GOOD: dict[str, Any] = {
    "context": 4096,
    "budget": "5m",
    "temperature": 0.0,
    "top_p": 0.95,
    "seed": 1,
    "max_tokens": 256,
    "k_max": 16,
    "threads": 0,
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("1h", 3600),
        ("45", 45),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("2min", 120),
        (" 5 M ", 300),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text, option="--budget") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "0s", "-5m", "5x", "m", "1m30h", "nan", "inf", "1e3", "9" * 400, "٣m "])
def test_what_is_not_a_duration_names_the_option(text: str) -> None:
    if text == "٣m ":
        assert duration_s(text, option="--budget") == 180  # digits of any script are digits
        return
    with pytest.raises(OptionError, match="--budget"):
        duration_s(text, option="--budget")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("context", 255),
        ("context", 2**24 + 1),
        ("max_tokens", 7),
        ("max_tokens", 4096),
        ("k_max", 0),
        ("k_max", 65),
        ("temperature", -0.1),
        ("temperature", 5.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", float("nan")),
        ("seed", -1),
        ("seed", 2**32 - 1),
        ("threads", -1),
        ("threads", 1025),
        ("budget", "soon"),
    ],
)
def test_a_value_out_of_range_names_its_option_and_what_to_do(option: str, value: Any) -> None:
    with pytest.raises(OptionError) as caught:
        settings(**{**GOOD, option: value})
    assert "--" + option.replace("_", "-") in caught.value.what
    assert caught.value.fix


def test_values_arrive_in_the_settings() -> None:
    made = settings(context=256, budget="90s", temperature=0.8, top_p=1.0, seed=7, max_tokens=8, k_max=64, threads=3)
    assert (made.context, made.budget_s, made.max_tokens, made.k_max, made.threads) == (256, 90, 8, 64, 3)
    assert (made.sampling.temperature, made.sampling.top_p, made.sampling.seed) == (0.8, 1.0, 7)


NOT_ASKED: dict[str, Any] = {
    "host": None,
    "baseline_tps": None,
    "llama_build": None,
    "k": None,
    "p_min": None,
    "predict": False,
    "categories": [],
    "demo": False,
}


def asked(target: str | None, **options: Any) -> PriorQuestion | None:
    return prior_question(target, **{**NOT_ASKED, **options})


class TestPriorQuestion:
    def test_a_name_asks_for_a_prediction_unless_it_is_on_disk(self) -> None:
        assert asked("qwen2.5-72b-q8") == PriorQuestion("qwen2.5-72b-q8", is_prediction_only=False)

    @pytest.mark.parametrize(
        "option", [{"host": "rtx-4090"}, {"baseline_tps": 8.0}, {"llama_build": "b7900"}, {"k": 4}, {"p_min": 0.0}]
    )
    def test_what_only_a_prediction_answers_is_never_measured(self, option: dict[str, Any], tmp_path: Path) -> None:
        for target in ("qwen2.5-72b-q8", str(touch(tmp_path / "here.gguf"))):
            question = asked(target, **option)
            assert question is not None
            assert question.is_prediction_only

    def test_a_mistyped_path_is_not_looked_up_as_a_name(self) -> None:
        with pytest.raises(FileProblem, match="does not exist"):
            asked("./qwen2.5-72b-q8_0.gguf", host="rtx-4090")

    def test_an_unknown_category_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(OptionError, match="caht") as caught:
            asked("qwen2.5-72b-q8", categories=["caht"])
        assert "chat" in caught.value.fix

    @pytest.mark.parametrize("given", [{"draft": [Path("a.gguf")]}, {"workload": Path("p.jsonl")}, {"fresh": True}])
    def test_what_a_prediction_cannot_use_is_refused(self, given: dict[str, Any]) -> None:
        with pytest.raises(OptionError, match=f"--{next(iter(given))}"):
            refuse_for_prediction(**given)
        refuse_for_prediction(draft=None, draft_dir=[], fresh=False, budget=None)

    def test_files_the_demo_and_no_target_are_no_question(self, tmp_path: Path) -> None:
        assert asked(str(touch(tmp_path / "t.gguf"))) is None
        assert asked("./not-there.gguf") is None
        assert asked("models/not-there.gguf") is None
        assert asked(None) is None
        assert asked("qwen2.5-72b-q8", demo=True) is None

    @pytest.mark.parametrize(("text", "number"), [("b7900", 7900), ("7900", 7900), (" B11434 ", 11434)])
    def test_builds(self, text: str, number: int) -> None:
        question = asked("qwen2.5-72b", llama_build=text)
        assert question is not None
        assert question.build == number

    @pytest.mark.parametrize("text", ["", "b", "b0", "new", "b-1", "b12.5", "b99999999"])
    def test_no_build(self, text: str) -> None:
        with pytest.raises(OptionError, match="--llama-build") as caught:
            asked("qwen2.5-72b", llama_build=text)
        assert "b7900" in caught.value.fix

    @pytest.mark.parametrize(
        ("option", "value"),
        [("k", 0), ("k", 65), ("p_min", -0.1), ("p_min", 1.1), ("p_min", float("nan")), ("baseline_tps", 0.0)],
    )
    def test_a_pin_out_of_range(self, option: str, value: float) -> None:
        with pytest.raises(OptionError, match="--" + option.replace("_", "-")):
            asked("qwen2.5-72b", **{option: value})

    @pytest.mark.parametrize("rest", [{"target": None}, {"target": "qwen2.5-72b", "demo": True}])
    def test_a_prediction_needs_a_named_model(self, rest: dict[str, Any]) -> None:
        with pytest.raises(OptionError, match="--host"):
            asked(**rest, host="rtx-4090")


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF")
    return path


def names(files: tuple[Path, ...]) -> list[str]:
    return [path.name for path in files]


class TestTarget:
    def test_a_file(self, tmp_path: Path) -> None:
        file = touch(tmp_path / "model")
        assert target_file(str(file)) == file

    def test_home_is_understood(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        file = touch(tmp_path / "t.gguf")
        assert target_file("~/t.gguf") == file

    @pytest.mark.parametrize(
        "text",
        ["qwen2.5-72b-q8", "Qwen/Qwen2.5-7B-Instruct-GGUF:Q8_0", "hf.co/Qwen/Qwen2.5-7B", "qwen2.5-72b-q8_0.gguf"],
    )
    def test_a_name_is_no_file(self, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert not is_file_argument(text)
        touch(tmp_path / text.replace("/", "-").replace(":", "-"))
        assert is_file_argument(str(tmp_path / text.replace("/", "-").replace(":", "-")))

    @pytest.mark.parametrize(
        "text", ["./qwen2.5-72b-q8", "/models/qwen.gguf", "models/qwen.gguf", "../a/b", ".\\qwen.gguf", "~/qwen.gguf"]
    )
    def test_a_path_is_a_file_though_nothing_is_there(self, text: str) -> None:
        assert is_file_argument(text)

    @pytest.mark.parametrize("text", ["qwen.gguf", "models/qwen", ".\\qwen", "~/qwen", "x" * 5000 + ".gguf"])
    def test_a_missing_file(self, text: str) -> None:
        with pytest.raises(FileProblem, match="does not exist"):
            target_file(text)

    def test_a_directory(self, tmp_path: Path) -> None:
        with pytest.raises(FileProblem, match="is a directory"):
            target_file(str(tmp_path))

    @pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="needs a file system of bytes")
    def test_a_name_that_is_not_text(self, tmp_path: Path) -> None:
        with pytest.raises(FileProblem, match="not valid text"):
            target_file(str(touch(tmp_path / "caf\udce9.gguf")))


class TestDrafts:
    @pytest.fixture
    def target(self, tmp_path: Path) -> Path:
        return touch(tmp_path / "models" / "target.gguf")

    @pytest.fixture
    def notes(self) -> list[str]:
        return []

    def test_named_drafts_alone(self, target: Path, notes: list[str]) -> None:
        touch(target.with_name("other.gguf"))
        draft = touch(target.with_name("draft.gguf"))
        assert draft_files([draft, draft], [], target, notes.append) == (draft,)

    def test_without_any_option_the_folder_of_the_target(self, target: Path, notes: list[str]) -> None:
        touch(target.with_name("b.GGUF"))
        touch(target.with_name("a.gguf"))
        touch(target.with_name("readme.md"))
        assert names(draft_files([], [], target, notes.append)) == ["a.gguf", "b.GGUF"]
        assert notes == []

    def test_named_drafts_come_before_those_of_a_folder_and_none_comes_twice(
        self, target: Path, notes: list[str]
    ) -> None:
        named = touch(target.with_name("z.gguf"))
        touch(target.with_name("a.gguf"))
        assert names(draft_files([named], [target.parent], target, notes.append)) == ["z.gguf", "a.gguf"]

    def test_two_levels_of_folders_and_no_deeper(self, target: Path, notes: list[str]) -> None:
        for inner in ("0.gguf", "one/1.gguf", "one/two/2.gguf", "one/two/three/3.gguf", ".hidden/4.gguf"):
            touch(target.parent / inner)
        assert names(draft_files([], [target.parent], target, notes.append)) == ["0.gguf", "1.gguf", "2.gguf"]

    def test_a_split_model_is_one_model(self, target: Path, notes: list[str]) -> None:
        for part in range(1, 4):
            touch(target.with_name(f"big-{part:05d}-of-00003.gguf"))
        assert names(draft_files([], [], target, notes.append)) == ["big-00001-of-00003.gguf"]

    def test_no_part_of_a_split_target_is_its_own_draft(self, tmp_path: Path, notes: list[str]) -> None:
        parts = [touch(tmp_path / f"big-{part:05d}-of-00002.gguf") for part in (1, 2)]
        touch(tmp_path / "small.gguf")
        for target in parts:
            assert names(draft_files([], [], target, notes.append)) == ["small.gguf"]

    def test_vision_projectors_are_skipped_with_a_note(self, target: Path, notes: list[str]) -> None:
        touch(target.with_name("mmproj-model-f16.gguf"))
        touch(target.with_name("a.gguf"))
        assert names(draft_files([], [], target, notes.append)) == ["a.gguf"]
        assert len(notes) == 1
        assert "mmproj" in notes[0]

    def test_an_empty_folder(self, target: Path, notes: list[str]) -> None:
        assert draft_files([], [], target, notes.append) == ()
        with pytest.raises(FileProblem, match="no draft") as caught:
            draft_files([], [target.parent], target, notes.append)
        assert str(target.parent) in caught.value.why
        assert "need no draft" in caught.value.fix

    def test_a_folder_that_is_none(self, target: Path, notes: list[str]) -> None:
        with pytest.raises(FileProblem, match=r"--draft-dir.*not a directory"):
            draft_files([], [target], target, notes.append)
        with pytest.raises(FileProblem, match=r"--draft-dir.*does not exist"):
            draft_files([], [target.parent / "none"], target, notes.append)

    def test_a_named_draft_that_is_missing_or_a_folder(self, target: Path, notes: list[str]) -> None:
        with pytest.raises(FileProblem, match=r"--draft.*does not exist"):
            draft_files([target.with_name("none.gguf")], [], target, notes.append)
        with pytest.raises(FileProblem, match="is a directory") as caught:
            draft_files([target.parent], [], target, notes.append)
        assert "--draft-dir" in caught.value.fix

    @pytest.mark.skipif(os.name == "nt", reason="making links needs a privilege there")
    def test_links_to_one_file_count_once_and_loops_end(self, target: Path, notes: list[str]) -> None:
        draft = touch(target.with_name("a.gguf"))
        target.with_name("b.gguf").symlink_to(draft)
        target.with_name("also-target.gguf").symlink_to(target)
        (target.parent / "loop").symlink_to(target.parent)
        assert names(draft_files([], [], target, notes.append)) == ["a.gguf"]
