"""What differs between a student copy and its lesson is run unsolved: every check says "not yet" to its blank.

Run are setup, exercises and checks with all cells that bind a name which these need, of all copies in one kernel. The
other cells run in the lesson (nbval), and do the same in the copy (test_answers_apart).
"""

import sys
from itertools import islice
from pathlib import Path

import nbformat
import pytest
import torch
from cells import CHECK, LESSONS, NOTEBOOKS, by_lesson, code_of, names_of, needed
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from labkit.course.checks.check import check
from labkit.course.students import BEGIN


class Here(KernelSpecManager):
    """Knows one kernel, that of the Python that runs the tests: "python3" may be somebody else's."""

    def get_kernel_spec(self, _name):
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, language="python")


def run(notebooks, folder):
    """The code cells of notebooks after a run in the fast profile, in one kernel that forgets all names in between."""
    sources = [source for notebook in notebooks for source in ("%reset -f", *notebook)]
    read = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    manager, where = AsyncKernelManager(kernel_spec_manager=Here()), {"metadata": {"path": str(folder)}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_PROFILE", "fast")  # kernels inherit the environment
        client = NotebookClient(read, km=manager, timeout=300, allow_errors=True, resources=where)
        cells = iter(client.execute(cleanup_kc=True).cells)
    assert not manager.has_kernel  # no kernel outlives its notebooks
    return [list(islice(cells, 1 + len(notebook)))[1:] for notebook in notebooks]


def said(cell):
    """What a cell printed; AssertionError if it stopped with an error."""
    errors = [f"{output.ename}: {output.evalue}" for output in cell.outputs if output.output_type == "error"]
    assert not errors, f"{errors[0]}, in the cell\n{cell.source}"
    return "".join(output.get("text", "") for output in cell.outputs)


def to_run(sources):
    """Setup, exercises and checks of a copy, with all cells that they need."""
    wanted = [k for k, source in enumerate(sources) if CHECK.fullmatch(source) or "NotImplementedError(" in source]
    setup = [k for k, source in enumerate(sources) if "begin" in names_of(source)[0]]
    return [sources[k] for k in needed(sources, [*setup, *wanted])]


def require_unsolved(cells):
    """Require that the cells ran, and that every check among them says "not yet"; returns how many do."""
    printed = {cell.source: said(cell) for cell in cells}
    numbers = {source: found[1] for source in printed if (found := CHECK.fullmatch(source))}
    for source, number in numbers.items():
        assert printed[source].startswith(f"{number}: not yet."), printed[source]
    return len(numbers)


def test_all_cells_that_bind_a_needed_name_are_found_and_no_others():
    f, g = "def f():\n    return math.pi", "def g():\n    return a"
    sources = ["import math", "a = 1", "b = math.pi", "a = b", "c = 5", f, g, "c", "g()"]
    assert needed(sources, [8]) == [0, 2, 3, 6, 8] and needed(sources, [5]) == [0, 5] and needed(sources, [7]) == [4, 7]
    assert needed(["print(y := 2, [z := 3 for _ in 'a'])", "y + z"], [1]) == [0, 1]


@pytest.fixture(scope="module")
def copies():
    paths = [NOTEBOOKS / "student" / path.name for path in LESSONS]
    ran = run([to_run(code_of(path)) for path in paths], NOTEBOOKS / "student")
    return dict(zip(LESSONS, ran, strict=True))


@by_lesson
def test_setup_and_blanks_of_the_copy_run_and_every_check_says_not_yet(path, copies):
    exercises = sum(BEGIN in source for source in code_of(path))
    assert require_unsolved(copies[path]) == exercises > 0
    assert sum("profile 'fast'" in said(cell) for cell in copies[path]) == 1  # what `begin` says


def test_a_blank_that_is_none_is_seen_and_what_it_does_not_need_is_not_run(tmp_path):
    def copy(before, define="def f(*_):"):
        blank = f'{define}\n    {before}\n    raise NotImplementedError("exercise 01.5")'
        imports = ["budgets = {'fast': {}}", "from labkit.course import begin, check"]
        return [*imports, 'lesson = begin(budgets, on="cpu")', "1 / 0", blank, 'check("01.5", f)']

    wrong = {
        "NotRight: 01.5: what is returned should be a tensor": copy("return 0"),
        "NotRight: 01.5: your function stopped .* 'missing' is not defined": copy("missing"),
        "^NameError": copy("0", "def f(step, x, n=missing):"),
    }
    sound, *rest = run([to_run(sources) for sources in (copy("0"), *wrong.values())], tmp_path)
    assert require_unsolved(sound) == 1 and said(sound[2]).startswith("profile 'fast'")
    assert [cell.source for cell in sound] == [source for source in copy("0") if source != "1 / 0"]
    for words, cells in zip(wrong, rest, strict=True):
        with pytest.raises(AssertionError, match=words):
            require_unsolved(cells)


def test_cells_run_in_this_environment_and_forget_the_notebook_before(tmp_path, monkeypatch):
    ours = f"import os, sys\nassert os.environ['LABKIT_PROFILE'] == 'fast' and sys.executable == {sys.executable!r}"
    monkeypatch.setenv("LABKIT_PROFILE", "cpu")
    first, second = run([[ours, "print(os.getcwd())", "1 / 0", "print(1)"], ["print(os)"]], tmp_path)
    assert Path(said(first[1]).strip()).samefile(tmp_path) and said(first[3]) == "1\n"
    for cell, words in ((first[2], "ZeroDivisionError"), (second[0], "NameError: name 'os'")):
        with pytest.raises(AssertionError, match=words):
            said(cell)


@by_lesson
def test_the_lessons_own_solutions_are_right_and_draw_nothing_that_the_lesson_draws_from(path, capsys):
    sources, names = code_of(path), {}
    exercises = [k for k, source in enumerate(sources) if BEGIN in source]
    for k in needed(sources, exercises):
        exec(sources[k], names)
    for k in exercises:
        number, name = CHECK.fullmatch(sources[k + 1]).groups()
        before = torch.get_rng_state()
        check(number, names[name])
        assert capsys.readouterr().out.startswith(f"{number}: right.")
        assert torch.get_rng_state().equal(before)
