"""Downloads through the real huggingface_hub client from a hub on loopback, sound and broken."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from advisor.catalog.local import find_local
from advisor.catalog.matching import match_local
from advisor.catalog.pull import LocalPull, PullPlan, check_disk, download, plan_pull, pull
from advisor.catalog.records import Entry, Repository, Shape
from advisor.errors import FileProblem, HubError, OptionError
from advisor.testing.gguf_files import llama_tensors, llama_values, write
from advisor.testing.hub import Corrupt, Drop, FakeHub, Hold, Refuse, WrongSize

REPO = "bartowski/Tiny-1B-Instruct-GGUF"
REPOSITORY = Repository(repo=REPO, file="Tiny-1B-Instruct-{quant}.gguf")
Q8 = "Tiny-1B-Instruct-Q8_0.gguf"
TINY = Entry(
    id="tiny-1b",
    name="Tiny-1B-Instruct",
    hf_repo="Tiny/Tiny-1B-Instruct",
    licence="apache-2.0",
    parameters=10**9,
    tokenizer="tiny",
    shape=Shape(
        architecture="llama",
        layers=2,
        embedding_length=64,
        feed_forward_length=128,
        heads=4,
        kv_heads=2,
        head_length=16,
        vocabulary_size=32,
        context_length=2048,
        tied_embeddings=True,
    ),
    source="made for a test",
)
MIB = 1 << 20


class Shown:
    """A progress listener. ``interrupt_at`` is the step at which the user presses Ctrl-C."""

    def __init__(self, interrupt_at: int = 0) -> None:
        self.stages: list[tuple[str, int]] = []
        self.details: list[str] = []
        self.interrupt_at = interrupt_at
        self.begun = threading.Event()

    def stage(self, name: str, steps: int) -> None:
        self.stages.append((name, steps))

    def step(self, detail: str = "") -> None:
        self.details.append(detail)
        self.begun.set()
        if len(self.details) == self.interrupt_at:
            raise KeyboardInterrupt

    def note(self, text: str) -> None: ...


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the user's files, token or hub."""
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("ALL_PROXY", "HTTP_PROXY", "all_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "hub"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub(tmp_path / "served") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def serve(hub: FakeHub, path: str, *, repo: str = REPO, size: int = 0) -> Path:
    """A small sound model file on the hub, or ``size`` bytes that differ from block to block."""
    file = hub.folder / repo / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if not size:
        return write(file, {**llama_values(), "general.name": "Tiny 1B Instruct"}, llama_tensors())
    file.write_bytes(b"".join(number.to_bytes(8, "little") for number in range(size // 8)))
    return file


def plan(quant: str = "Q8_0", repository: Repository = REPOSITORY) -> PullPlan:
    return plan_pull(TINY, quant, repository)


def quietly(plan: PullPlan, folder: Path | None = None, progress: Any = None, **more: Any) -> LocalPull:
    """pull without waiting between tries."""
    return pull(plan, folder, progress, sleep=lambda _seconds: None, **more)


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".incomplete", ".lock", ".part")]


# -- planning --------------------------------------------------------------------------------------------------------


def test_a_plan_names_files_sizes_and_version_and_downloads_nothing(hub: FakeHub) -> None:
    file = serve(hub, Q8)
    serve(hub, "Tiny-1B-Instruct-Q4_0.gguf")
    made = plan()
    assert [(one.path, one.size_bytes) for one in made.files] == [(Q8, file.stat().st_size)]
    assert made.files[0].sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert made.total_bytes == file.stat().st_size
    assert made.revision == hub.commit(REPO)
    assert hub.downloads(Q8) == []
    assert len(hub.requests) == 1


@pytest.mark.parametrize(
    ("file", "pattern", "quant"),
    [
        ("Tiny-1B-Instruct-Q8_0.gguf", "Tiny-1B-Instruct-{quant}.gguf", "q8_0"),
        ("tiny-1b-instruct-q8_0.gguf", "tiny-1b-instruct-{quant}.gguf", "Q8_0"),
        ("Q8_0/Tiny-1B-Instruct-Q8_0.gguf", "Tiny-1B-Instruct-{quant}.gguf", "Q8_0"),
        ("Q8_0/Tiny-1B-Instruct-Q8_0.gguf", "{quant}/Tiny-1B-Instruct-{quant}.gguf", "Q8_0"),
        ("Tiny-1B-Instruct-UD-Q4_K_XL.gguf", "Tiny-1B-Instruct-{quant}.gguf", "UD-Q4_K_XL"),
        ("Tiny-Q8_0/Tiny-Q8_0.gguf", "{quant}-Tiny-{quant}.gguf", "Q8_0"),
        ("Tiny_1B.Q8_0.gguf", "Tiny-1B-Instruct-{quant}.gguf", "Q8_0"),
    ],
)
def test_a_quantization_is_found_however_the_repository_spells_it(
    hub: FakeHub, file: str, pattern: str, quant: str
) -> None:
    serve(hub, file)
    made = plan(quant, Repository(repo=REPO, file=pattern))
    assert [one.path for one in made.files] == [file]


@pytest.mark.parametrize(("spelled", "file"), [("fp16", "tiny-1b-fp16.gguf"), ("f16", "tiny-1b-f16.gguf")])
@pytest.mark.parametrize("quant", ["F16", "f16"])
def test_a_quantization_with_a_name_of_its_own_in_the_repository(
    hub: FakeHub, spelled: str, file: str, quant: str
) -> None:
    serve(hub, file)
    serve(hub, "tiny-1b-q8_0.gguf")
    repository = Repository(
        repo=REPO, file="tiny-1b-{quant}.gguf", quants=("F16", "Q8_0"), spelled={"F16": spelled}, lower_case_quants=True
    )
    assert [one.path for one in plan(quant, repository).files] == [file]
    assert [one.path for one in plan("Q8_0", repository).files] == ["tiny-1b-q8_0.gguf"]


def test_a_name_of_its_own_in_a_repository_that_names_files_otherwise(hub: FakeHub) -> None:
    serve(hub, "tiny.fp16.gguf")
    repository = Repository(repo=REPO, file="Tiny-1B-{quant}.gguf", quants=("F16",), spelled={"F16": "fp16"})
    assert [one.path for one in plan("F16", repository).files] == ["tiny.fp16.gguf"]


def test_a_variant_with_a_longer_name_is_another_model(hub: FakeHub) -> None:
    serve(hub, "Tiny-1B-Instruct-1M-Q8_0.gguf")
    serve(hub, Q8)
    assert [one.path for one in plan().files] == [Q8]


def test_a_split_quantization_is_all_its_parts_in_order(hub: FakeHub) -> None:
    names = [f"Q8_0/Tiny-1B-Instruct-Q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    for number, name in enumerate(reversed(names)):
        serve(hub, name, size=800 + 8 * number)
    made = plan()
    assert [one.path for one in made.files] == names
    assert made.total_bytes == 800 + 808 + 816


def test_a_split_quantization_with_a_part_missing_is_not_offered(hub: FakeHub) -> None:
    serve(hub, "Tiny-1B-Instruct-Q8_0-00001-of-00002.gguf")
    serve(hub, "Tiny-1B-Instruct-Q4_0.gguf")
    with pytest.raises(OptionError, match="Q8_0") as caught:
        plan()
    assert "Q4_0" in caught.value.why


def test_image_encoders_and_other_files_are_not_quantizations(hub: FakeHub) -> None:
    for name in ("mmproj-Tiny-1B-Instruct-Q8_0.gguf", "README.md", "Tiny-1B-Instruct.imatrix"):
        serve(hub, name)
    with pytest.raises(OptionError):
        plan()


def test_a_missing_quantization_is_told_with_those_that_exist(hub: FakeHub) -> None:
    for quant in ("Q4_K_M", "Q8_0", "IQ2_XS"):
        serve(hub, f"Tiny-1B-Instruct-{quant}.gguf")
    with pytest.raises(OptionError, match="Q5_K_M") as caught:
        plan("Q5_K_M")
    assert "IQ2_XS, Q4_K_M, Q8_0" in caught.value.why
    assert caught.value.exit_code == 2


def test_a_file_name_that_leads_elsewhere_is_refused(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    file = serve(hub, Q8)
    monkeypatch.setattr(hub, "files", lambda repo: {"../../Tiny-1B-Instruct-Q8_0.gguf": file})
    with pytest.raises(HubError, match="unsafe"):
        plan()


# -- downloading -----------------------------------------------------------------------------------------------------


def test_a_whole_file_comes_into_the_cache_where_others_find_it(hub: FakeHub, cache: Path) -> None:
    served = serve(hub, Q8)
    made = plan()
    pulled = quietly(made)
    (path,) = pulled.paths
    assert path == cache / f"models--{REPO.replace('/', '--')}" / "snapshots" / made.revision / Q8
    assert path.read_bytes() == served.read_bytes()
    assert pulled.revision == hub.commit(REPO)
    assert leftovers(cache) == []
    try_to_load_from_cache = pytest.importorskip("huggingface_hub").try_to_load_from_cache
    assert try_to_load_from_cache(REPO, Q8, cache_dir=cache) == str(path)


def test_a_pulled_file_is_on_disk_and_its_entry(hub: FakeHub, cache: Path, tmp_path: Path) -> None:
    serve(hub, Q8)
    quietly(plan())
    files = find_local(environ={"HF_HUB_CACHE": str(cache)}, home=tmp_path, platform="linux")
    (local,) = match_local(files, [TINY])
    assert (local.entry, local.origin) == (TINY, "Hugging Face")


def test_a_second_pull_downloads_nothing(hub: FakeHub, tmp_path: Path) -> None:
    serve(hub, Q8)
    for folder in (None, tmp_path / "models"):
        first = quietly(plan(), folder)
        downloads = len(hub.downloads(Q8))
        assert quietly(plan(), folder) == first
        assert len(hub.downloads(Q8)) == downloads


def test_a_folder_of_ones_own_with_the_version_beside_the_file(hub: FakeHub, tmp_path: Path, cache: Path) -> None:
    served = serve(hub, f"Q8_0/{Q8}")
    made = plan()
    pulled = quietly(made, tmp_path / "models")
    assert pulled.paths == (tmp_path / "models" / REPO / Q8,)
    assert pulled.paths[0].read_bytes() == served.read_bytes()
    record = json.loads((pulled.paths[0].parent / "pulled.json").read_text(encoding="utf-8"))
    assert record[Q8]["repo"] == REPO
    assert record[Q8]["revision"] == made.revision
    assert record[Q8]["sha256"] == hashlib.sha256(served.read_bytes()).hexdigest()
    assert leftovers(tmp_path / "models") == []
    assert not cache.exists()


def test_the_record_keeps_what_was_pulled_before(hub: FakeHub, tmp_path: Path) -> None:
    serve(hub, Q8)
    serve(hub, "Tiny-1B-Instruct-Q4_0.gguf")
    quietly(plan("Q4_0"), tmp_path)
    quietly(plan("Q8_0"), tmp_path)
    record = json.loads((tmp_path / REPO / "pulled.json").read_text(encoding="utf-8"))
    assert sorted(record) == ["Tiny-1B-Instruct-Q4_0.gguf", Q8]


def test_all_parts_of_a_split_model(hub: FakeHub, tmp_path: Path) -> None:
    served = [serve(hub, f"Tiny-1B-Instruct-Q8_0-0000{n}-of-00002.gguf", size=8000 * n) for n in (1, 2)]
    pulled = quietly(plan(), tmp_path / "models")
    assert [path.read_bytes() for path in pulled.paths] == [path.read_bytes() for path in served]
    assert pulled.paths[0].parent == pulled.paths[1].parent


def test_a_new_version_on_the_hub_replaces_the_old_one(hub: FakeHub, tmp_path: Path) -> None:
    serve(hub, Q8, size=8000)
    quietly(plan(), tmp_path)
    newer = serve(hub, Q8, size=8800)
    made = plan()
    (path,) = quietly(made, tmp_path).paths
    assert path.read_bytes() == newer.read_bytes()
    record = json.loads((path.parent / "pulled.json").read_text(encoding="utf-8"))
    assert record[Q8]["revision"] == made.revision


def test_a_file_of_the_right_size_but_other_content_is_not_taken_for_it(hub: FakeHub, tmp_path: Path) -> None:
    served = serve(hub, Q8, size=8000)
    here = tmp_path / REPO / Q8
    here.parent.mkdir(parents=True)
    here.write_bytes(bytes(8000))
    quietly(plan(), tmp_path)
    assert here.read_bytes() == served.read_bytes()


def test_a_file_that_was_put_there_by_hand_is_taken(hub: FakeHub, tmp_path: Path) -> None:
    served = serve(hub, Q8, size=8000)
    here = tmp_path / REPO / Q8
    here.parent.mkdir(parents=True)
    shutil.copy(served, here)
    quietly(plan(), tmp_path)
    assert hub.downloads(Q8) == []


def test_a_system_without_links_still_gets_the_file(hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(hub, Q8)

    def forbidden(self: Path, target: Any, target_is_directory: bool = False) -> None:
        raise OSError(errno.EPERM, "links need a privilege")

    monkeypatch.setattr(Path, "symlink_to", forbidden)
    first = quietly(plan())
    assert first.paths[0].read_bytes() == served.read_bytes()
    assert not first.paths[0].is_symlink()
    assert quietly(plan()) == first
    assert len(hub.downloads(Q8)) == 1


def test_progress_counts_to_the_end_and_tells_amount_and_rate(hub: FakeHub, tmp_path: Path) -> None:
    serve(hub, Q8, size=8 * MIB)
    shown = Shown()
    ticks = iter(range(1000))
    pull(plan(), tmp_path, shown, clock=lambda: float(next(ticks)))
    ((name, steps),) = shown.stages
    assert REPO in name
    assert len(shown.details) == steps
    assert shown.details[-1] == "8.0 MiB of 8.0 MiB, 1.0 MiB/s"


# -- broken connections ----------------------------------------------------------------------------------------------


def test_a_dropped_connection_is_taken_up_where_it_broke(hub: FakeHub, tmp_path: Path) -> None:
    served = serve(hub, Q8, size=4 * MIB)
    hub.faults.append(Drop(Q8, after_bytes=3 * MIB + 5))
    (path,) = quietly(plan(), tmp_path).paths
    assert path.read_bytes() == served.read_bytes()
    first, second = hub.downloads(Q8)
    assert first.range == ""
    assert second.range == f"bytes={3 * MIB}-"
    assert leftovers(tmp_path) == []


def test_a_connection_that_always_breaks_ends_in_an_error_and_the_next_pull_goes_on(
    hub: FakeHub, tmp_path: Path
) -> None:
    served = serve(hub, Q8, size=4 * MIB)
    hub.faults += [Drop(Q8, after_bytes=2 * MIB)] + [Drop(Q8, after_bytes=10) for _ in range(9)]
    with pytest.raises(HubError, match="cannot be reached") as caught:
        quietly(plan(), tmp_path)
    assert "goes on from where it stopped" in caught.value.fix
    assert caught.value.exit_code == 3
    hub.faults.clear()
    tried = len(hub.downloads(Q8))
    shown = Shown()
    (path,) = quietly(plan(), tmp_path, shown).paths
    assert path.read_bytes() == served.read_bytes()
    assert [request.range for request in hub.downloads(Q8)[tried:]] == [f"bytes={2 * MIB}-"]
    assert len(shown.details) == shown.stages[0][1]


def test_a_connection_that_breaks_often_but_brings_something_gets_there(hub: FakeHub, tmp_path: Path) -> None:
    served = serve(hub, Q8, size=8 * MIB)
    hub.faults += [Drop(Q8, after_bytes=MIB) for _ in range(7)]
    (path,) = quietly(plan(), tmp_path).paths
    assert path.read_bytes() == served.read_bytes()
    assert len(hub.downloads(Q8)) == 8


@pytest.mark.parametrize("in_cache", [False, True])
def test_ctrl_c_leaves_what_arrived_for_the_next_pull(hub: FakeHub, tmp_path: Path, in_cache: bool) -> None:
    served = serve(hub, Q8, size=4 * MIB)
    folder = None if in_cache else tmp_path / "models"
    with pytest.raises(KeyboardInterrupt):
        quietly(plan(), folder, Shown(interrupt_at=50))
    (path,) = quietly(plan(), folder).paths
    assert path.read_bytes() == served.read_bytes()
    assert [request.range for request in hub.downloads(Q8)] == ["", f"bytes={2 * MIB}-"]


def test_an_interrupted_pull_of_an_older_version_is_not_continued(hub: FakeHub, tmp_path: Path) -> None:
    serve(hub, Q8, size=4 * MIB)
    with pytest.raises(KeyboardInterrupt):
        quietly(plan(), tmp_path, Shown(interrupt_at=50))
    newer = hub.folder / REPO / Q8
    newer.write_bytes(b"new" * MIB)
    (path,) = quietly(plan(), tmp_path).paths
    assert path.read_bytes() == newer.read_bytes()
    assert hub.downloads(Q8)[-1].range == ""


def test_a_partial_file_longer_than_the_whole_is_thrown_away(hub: FakeHub, tmp_path: Path) -> None:
    served = serve(hub, Q8, size=4 * MIB)
    with pytest.raises(KeyboardInterrupt):
        quietly(plan(), tmp_path, Shown(interrupt_at=50))
    (partial,) = [path for path in leftovers(tmp_path) if path.suffix == ".incomplete"]
    partial.write_bytes(bytes(5 * MIB))
    assert quietly(plan(), tmp_path).paths[0].read_bytes() == served.read_bytes()


def test_a_server_without_ranges_sends_all_of_it_again(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(hub, Q8, size=4 * MIB)
    hub.faults.append(Drop(Q8, after_bytes=2 * MIB))
    monkeypatch.setattr("advisor.testing.hub._RANGE", re.compile("never"))
    shown = Shown()
    (path,) = quietly(plan(), tmp_path, shown).paths
    assert path.read_bytes() == served.read_bytes()
    assert len(shown.details) == shown.stages[0][1]


def test_a_hub_that_falls_silent_is_an_error(hub: FakeHub, tmp_path: Path) -> None:
    serve(hub, Q8, size=4 * MIB)
    hub.faults.append(Hold(Q8, after_bytes=0))
    with pytest.raises(HubError, match="did not answer in time"):
        quietly(plan(), tmp_path, timeout_s=0.05)


def test_two_pulls_at_once_download_once(hub: FakeHub, tmp_path: Path) -> None:
    served = serve(hub, Q8, size=4 * MIB)
    hold = Hold(Q8, after_bytes=2 * MIB)
    hub.faults.append(hold)
    made = plan()
    results: list[LocalPull] = []
    shown = Shown()
    pulls = [
        threading.Thread(target=lambda: results.append(quietly(made, tmp_path, shown))),
        threading.Thread(target=lambda: results.append(quietly(made, tmp_path))),
    ]
    pulls[0].start()
    assert shown.begun.wait(timeout=30)
    pulls[1].start()
    hold.release.set()
    for one in pulls:
        one.join(timeout=30)
    assert [one.paths[0].read_bytes() == served.read_bytes() for one in results] == [True, True]
    assert len(hub.downloads(Q8)) == 1


# -- what the hub sends ----------------------------------------------------------------------------------------------


def test_a_damaged_download_is_removed(hub: FakeHub, tmp_path: Path) -> None:
    served = serve(hub, Q8)
    corrupt = Corrupt(Q8)
    hub.faults.append(corrupt)
    with pytest.raises(HubError, match="SHA-256"):
        quietly(plan(), tmp_path)
    assert list(tmp_path.rglob("*.incomplete")) == []
    assert not (tmp_path / REPO / Q8).exists()
    hub.faults.remove(corrupt)
    assert quietly(plan(), tmp_path).paths[0].read_bytes() == served.read_bytes()


@pytest.mark.parametrize("extra", [100, -100])
def test_a_file_of_another_size_than_listed_is_removed(hub: FakeHub, tmp_path: Path, extra: int) -> None:
    size = serve(hub, Q8).stat().st_size
    hub.faults.append(WrongSize(Q8, extra))
    with pytest.raises(HubError, match=f"{size} bytes arrived, {size + extra} were expected"):
        quietly(plan(), tmp_path)
    assert list(tmp_path.rglob("*.incomplete")) == []
    assert not (tmp_path / REPO / Q8).exists()


def test_a_gated_repository_is_told_with_what_to_do(hub: FakeHub, tmp_path: Path) -> None:
    serve(hub, Q8)
    hub.faults.append(Refuse(REPO, status=403))
    with pytest.raises(HubError, match="gated") as caught:
        plan()
    assert f"{hub.endpoint}/{REPO}" in caught.value.fix
    assert "HF_TOKEN" in caught.value.fix


def test_a_repository_whose_files_are_gated(hub: FakeHub, tmp_path: Path) -> None:
    serve(hub, Q8)
    hub.faults.append(Refuse("/resolve/", status=403))
    with pytest.raises(HubError, match="gated"):
        quietly(plan(), tmp_path)
    assert len(hub.downloads(Q8)) == 1


@pytest.mark.parametrize("status", [401, 404])
def test_a_repository_that_is_not_there(hub: FakeHub, status: int) -> None:
    hub.faults.append(Refuse(REPO, status))
    with pytest.raises(HubError, match="does not give out") as caught:
        plan()
    assert "does not exist" in caught.value.why


@pytest.mark.parametrize(("status", "why"), [(429, "too busy"), (500, "wrong there"), (503, "wrong there")])
def test_a_hub_in_trouble(hub: FakeHub, tmp_path: Path, status: int, why: str) -> None:
    serve(hub, Q8)
    made = plan()
    hub.faults.append(Refuse("/resolve/", status))
    with pytest.raises(HubError, match=str(status)) as caught:
        quietly(made, tmp_path)
    assert why in caught.value.why


def test_a_file_that_vanished_after_the_plan(hub: FakeHub, tmp_path: Path) -> None:
    served = serve(hub, Q8)
    serve(hub, "README.md")
    made = plan()
    served.unlink()
    with pytest.raises(HubError, match="no longer on the hub"):
        quietly(made, tmp_path)


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(HubError, match="cannot be reached") as caught:
            plan()
    assert "HF_ENDPOINT" in caught.value.fix


def test_a_hub_that_goes_away_between_plan_and_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeHub(tmp_path / "served") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        serve(hub, Q8)
        made = plan()
    with pytest.raises(HubError, match="cannot be reached"):
        quietly(made, tmp_path)


@pytest.mark.parametrize("endpoint", ["nonsense", "http://["])
def test_an_endpoint_that_is_no_address(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(HubError):
        plan()


def test_an_endpoint_that_is_no_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(hub, Q8)
    monkeypatch.setattr("advisor.testing.hub.json.dumps", lambda document: "<html>")
    with pytest.raises(HubError, match="does not answer as a model hub"):
        plan()


def test_a_repository_name_that_cannot_be(hub: FakeHub) -> None:
    with pytest.raises(HubError, match="cannot be the name"):
        plan(repository=dataclasses.replace(REPOSITORY, repo="no spaces/../allowed"))


def test_a_token_is_sent_to_the_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serve(hub, Q8)
    monkeypatch.setenv("HF_TOKEN", "hf_example")
    quietly(plan(), tmp_path)
    assert {request.authorization for request in hub.requests} == {"Bearer hf_example"}


def test_files_of_a_content_network_resume_and_never_see_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_example")
    with FakeHub(tmp_path / "served", cdn=True) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        served = serve(hub, Q8, size=4 * MIB)
        hub.faults.append(Drop(Q8, after_bytes=2 * MIB))
        (path,) = quietly(plan(), tmp_path).paths
    assert path.read_bytes() == served.read_bytes()
    sent = [(one.range, one.authorization) for one in hub.downloads(Q8) if one.path.startswith("/cdn/")]
    assert sent == [("", ""), (f"bytes={2 * MIB}-", "")]


def test_the_client_library_itself_can_use_the_hub(hub: FakeHub, cache: Path) -> None:
    """The fake is close enough to the real one for code that is not ours."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    served = serve(hub, f"Q8_0/{Q8}")
    api = huggingface_hub.HfApi(endpoint=hub.endpoint)
    assert api.list_repo_files(REPO) == [f"Q8_0/{Q8}"]
    path = huggingface_hub.hf_hub_download(REPO, f"Q8_0/{Q8}", cache_dir=cache, endpoint=hub.endpoint)
    assert Path(path).read_bytes() == served.read_bytes()
    assert quietly(plan()).paths == (Path(path),)
    assert len(hub.downloads(Q8)) == 1


# -- the disk --------------------------------------------------------------------------------------------------------


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_full_disk_is_seen_before_the_download(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(hub, Q8, size=4 * MIB)
    made = plan()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10 * MIB, 9 * MIB, MIB))
    with pytest.raises(FileProblem, match=r"needs 4\.0 MiB, 1\.0 MiB are free") as caught:
        check_disk(made, tmp_path / "not" / "yet" / "there")
    assert str(tmp_path) in caught.value.why
    assert caught.value.exit_code == 2
    assert hub.downloads(Q8) == []


def test_the_disk_needs_room_only_for_what_is_missing(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(hub, Q8, size=4 * MIB)
    with pytest.raises(KeyboardInterrupt):
        quietly(plan(), tmp_path, Shown(interrupt_at=75))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10 * MIB, 9 * MIB, MIB))
    check_disk(plan(), tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10 * MIB, 10 * MIB, 0))
    with pytest.raises(FileProblem, match=r"needs 1\.0 MiB"):
        check_disk(plan(), tmp_path)
    quietly(plan(), tmp_path)
    check_disk(plan(), tmp_path)


def test_a_disk_that_fills_up_during_the_download(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(hub, Q8, size=4 * MIB)
    append = download._Content.append

    def until_full(self: Any, block: bytes) -> None:
        if self.size >= 2 * MIB:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, block)

    monkeypatch.setattr(download._Content, "append", until_full)
    with pytest.raises(FileProblem, match="The disk is full") as caught:
        quietly(plan(), tmp_path)
    assert "4.0 MiB" in caught.value.why
    monkeypatch.setattr(download._Content, "append", append)
    assert quietly(plan(), tmp_path).paths[0].read_bytes() == served.read_bytes()
    assert hub.downloads(Q8)[-1].range == f"bytes={2 * MIB}-"


def test_a_folder_that_cannot_be_made(hub: FakeHub, tmp_path: Path) -> None:
    serve(hub, Q8)
    (tmp_path / "models").write_text("a file", encoding="utf-8")
    with pytest.raises(FileProblem, match="cannot be written"):
        quietly(plan(), tmp_path / "models")
