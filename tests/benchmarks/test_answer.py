"""The command is asked as a user asks it; here the advisor that answers is a made-up one."""

from __future__ import annotations

from pathlib import Path

import pytest

from advisor.errors import EngineError
from advisor.report import json_document
from advisor.testing.builders import make_recommendation
from benchmarks import answer
from benchmarks.answer import Answered, Failed, Question

QUESTION = Question(Path("t.gguf"), (Path("a.gguf"), Path("b.gguf")), "5m", ("--quick",), '{"prompt": "question"}\n')
SAVES = """
import os, pathlib, sys
words = sys.argv[1:]
after = lambda name: words[words.index(name) + 1]
assert words[0] == "recommend" and "--quick" in words and words.count("--draft") == 2
assert (after("--target"), after("--budget"), after("--format")) == ("t.gguf", "5m", "json")
assert pathlib.Path(after("--workload")).read_text() == '{"prompt": "question"}\\n'
assert not pathlib.Path(os.environ["ADVISOR_DATA_DIR"]).exists()
pathlib.Path(after("--output")).write_text((pathlib.Path(__file__).parent / "saved.json").read_text())
"""


def advisor_in(root: Path, program: str) -> Path:
    """A repository whose advisor is ``program``."""
    (root / "advisor").mkdir()
    (root / "advisor" / "__init__.py").touch()
    (root / "advisor" / "__main__.py").write_text(program)
    return root


def test_the_command_of_a_repository_is_asked_from_an_empty_store(tmp_path):
    rec = make_recommendation()
    root = advisor_in(tmp_path, SAVES)
    (root / "advisor" / "saved.json").write_text(json_document.dumps(json_document.document(rec, command=())))
    ended = answer.recommend(QUESTION, root)
    assert isinstance(ended, Answered)
    assert ended.recommendation == rec
    assert ended.wall_s > 0


def test_an_older_document_which_knows_less_is_read(tmp_path):
    rec = make_recommendation()
    document = json_document.document(rec, command=())
    for name in ("contention", "first_answer"):
        del document["record"]["measurement"][name]
    root = advisor_in(tmp_path, SAVES)
    (root / "advisor" / "saved.json").write_text(json_document.dumps(document))
    assert answer.recommend(QUESTION, root).recommendation == rec


def test_a_command_that_fails_says_why(tmp_path):
    root = advisor_in(tmp_path, "import sys\nsys.exit('note: slow\\nerror: No draft can run.\\nNone fits.')")
    ended = answer.ask(QUESTION, root)
    assert isinstance(ended, Failed)
    assert (ended.exit_code, ended.line) == (1, "error: No draft can run.")
    with pytest.raises(EngineError, match=r"(?s)exited 1\..*None fits\."):
        answer.recommend(QUESTION, root)


@pytest.mark.parametrize(
    ("errors", "line"), [("Traceback:\n  x\nKeyError: 'y'\n", "KeyError: 'y'"), ("", "exit code 9")]
)
def test_a_command_that_fails_without_an_error_of_ours_is_told_by_its_last_line(errors, line):
    assert Failed(1.0, 9, errors).line == line
