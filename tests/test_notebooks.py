"""What holds for every notebook as it lies in the repository, and how pytest treats one that hangs or dies."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IMPORT = re.compile(r"^(?:from|import) labkit\.?([\w.]*)", flags=re.MULTILINE)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def read(path):
    return nbformat.read(path, as_version=4)


def text_of(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_those_of_one_run_from_top_to_bottom_without_errors_or_warnings(path):
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_last_cell_stamps_a_cpu_or_gpu_run_never_a_fast_one(path):
    stamp = text_of(code_cells(read(path))[-1])
    assert re.search(r"^profile (cpu|gpu), .*torch \d", stamp), stamp


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_metadata_is_clean_and_the_file_small(path):
    notebook = read(path)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    assert path.stat().st_size < 700_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_lesson_has_two_words_of_prose_for_every_line_of_code_and_short_cells(path):
    notebook = read(path)
    lines = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    assert len(lines) <= 46 and sum(lines) <= 500 and max(lines) <= 30
    assert median(lines) <= 13
    assert words >= 2 * sum(lines)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_lesson_imports_from_at_most_eight_rooms_once_each_and_in_one_cell(path):
    places = [(k, room) for k, cell in enumerate(code_cells(read(path))) for room in IMPORT.findall(cell.source)]
    cells, rooms = {k for k, _ in places}, [room for _, room in places]
    assert len(cells) == 1 and 1 <= len(rooms) <= 8 and len(set(rooms)) == len(rooms)
    assert set(rooms) <= {"base", "flow", "nn", "data", "training", "measure", "show", "course"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_picture_has_a_sentence_that_stands_for_it(path):
    pictures = [
        (cell.id, output.metadata)
        for cell in code_cells(read(path))
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    alts = [(name, metadata.get("image/png", {}).get("alt", "").strip()) for name, metadata in pictures]
    assert not [name for name, alt in alts if len(alt) < 20]


def run_pytest(folder, *cells, cell_timeout=60):
    """What pytest prints, typed by hand in a folder with this repository's conftest and a notebook of these cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "of-another-machine", "display_name": "x"}
    nbformat.write(notebook, folder / "lesson.ipynb")
    # A hung kernel is given a minute to print its last words; two seconds are enough here.
    source = (ROOT / "conftest.py").read_text(encoding="utf-8")
    assert "MESSAGE_TIMEOUT = 60" in source
    (folder / "conftest.py").write_text(source.replace("MESSAGE_TIMEOUT = 60", "MESSAGE_TIMEOUT = 2"), encoding="utf-8")
    shutil.copy(ROOT / "pyproject.toml", folder)
    environment = {name: value for name, value in os.environ.items() if name != "LABKIT_PROFILE"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "-n0",
        f"--nbval-cell-timeout={cell_timeout}",
        "-rs",
        "lesson.ipynb",
    ]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    return done.stdout


def test_notebooks_run_in_the_fast_profile_in_this_environment(tmp_path):
    cell = f"import os, sys; assert os.environ['LABKIT_PROFILE'] == 'fast' and sys.executable == {sys.executable!r}"
    assert "1 passed" in run_pytest(tmp_path, cell)


def test_a_kernel_that_dies_fails_its_notebook_once_and_at_once(tmp_path):
    printed = run_pytest(tmp_path, "1", "import os; os._exit(1)", "2", "3", cell_timeout=100)
    assert "the kernel died in this cell" in printed
    assert "1 failed, 1 passed, 2 skipped" in printed


def test_a_cell_that_hangs_fails_its_notebook_once(tmp_path):
    printed = run_pytest(tmp_path, "import time; time.sleep(1000)", "1", cell_timeout=2)
    assert "1 failed, 1 skipped" in printed and "hung" in printed


def test_a_cell_that_cannot_be_interrupted_fails_its_notebook_once(tmp_path):
    stubborn = "import time\nwhile True:\n    try:\n        time.sleep(1)\n    except KeyboardInterrupt:\n        pass"
    printed = run_pytest(tmp_path, stubborn, "1", cell_timeout=2)
    assert "1 failed, 1 skipped" in printed
