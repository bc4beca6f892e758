"""What an installed package has: everything it reads at run time, and nothing that only this repository needs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="hatchling, which builds the wheel, is not installed"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


def below(folder: Path, inside: str) -> set[str]:
    """The files of a folder by the names that they have in the wheel."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"{inside}/{path.relative_to(folder).as_posix()}" for path in files}


def test_it_has_every_file_of_the_package_and_the_catalogue(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = below(ROOT / "advisor", "advisor") | below(ROOT / "models_catalog", "advisor/models_catalog")
    assert wanted - names == set()
    for kind in ("models_catalog/hosts.yaml", "schema/recommendation.schema.json", "report/templates/", "py.typed"):
        assert any(name.startswith(f"advisor/{kind}") for name in names), kind


def test_it_has_nothing_else(wheel: Path) -> None:
    others = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("advisor/")}
    assert {name.split("/")[0].partition(".dist-info")[1] for name in others} == {".dist-info"}
    inside = {Path(name).parts[1] for name in zipfile.ZipFile(wheel).namelist() if name.startswith("advisor/")}
    assert not inside & {"tests", "benchmarks", "chaos", "scripts", "docs", "notebooks"}


def test_it_answers_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = (
        "import advisor\nassert 'installed' in advisor.__file__, advisor.__file__\n"
        "rec = advisor.recommend(target='qwen2.5-72b-q8', host='m4-max-128gb')\n"
        "print(rec.verdict, '<html' in advisor.to_html(rec))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "speculate True\n", done.stderr
