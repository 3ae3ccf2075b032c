"""Student copies: the lessons without solutions and outputs, up to date. That they run is shown in test_unsolved."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from labkit.course.students import BEGIN, END, blank, student_copy, students

ROOT = Path(__file__).parent.parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STUDENT = ROOT / "notebooks" / "student"
by_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)

SOLVED = f'''def slope(x, y):
    """What rises."""
    if x:
        {BEGIN}
        rise = y / x
        return rise
        {END}
    return 0'''
BLANK = '''def slope(x, y):
    """What rises."""
    if x:
        raise NotImplementedError("exercise 98.1")
    return 0'''


def cell(source, kind="code", name="c"):
    made = {"cell_type": kind, "id": name, "metadata": {}, "source": source.splitlines(keepends=True)}
    if kind == "code":
        output = {"output_type": "stream", "name": "stdout", "text": ["said\n"]}
        made |= {"execution_count": 3, "outputs": [output], "metadata": {"tags": ["long"]}}
    return made


def notebook(*cells):
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "x": [1, "é"]}
    return json.dumps({"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def small(*sources):
    """A lesson of a title and these code cells."""
    cells = [cell(source, name=f"c-{place}") for place, source in enumerate(sources)]
    return notebook(cell("# Lesson", "markdown", "title"), *cells)


def code_of(text):
    return ["".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "code"]


# A lesson's text to its copy's.


def test_a_solution_gives_way_to_a_raise_at_the_indentation_of_its_marker():
    after = ["x = 1\n", 'check("98.1", slope)']
    assert code_of(student_copy(small(SOLVED, *after))) == [BLANK, *after]


def test_the_raise_names_the_exercise_when_it_is_called_and_the_rest_of_the_function_stands():
    names = {}
    exec(code_of(student_copy(small(SOLVED, 'check("98.1", slope)')))[0], names)
    with pytest.raises(NotImplementedError, match=r"^exercise 98\.1$"):
        names["slope"](2, 1)
    assert names["slope"](0, 1) == 0 and names["slope"].__doc__ == "What rises."


def test_every_exercise_gets_its_own_number():
    others = [SOLVED.replace("slope", name) for name in ("grade", "tilt")]
    checks = [f'check("98.{k}", {name})' for k, name in ((1, "slope"), (2, "grade"), (12, "tilt"))]
    sources = [part for pair in zip([SOLVED, *others], checks, strict=True) for part in pair]
    raised = [re.findall(r'"exercise (.+)"', source) for source in code_of(student_copy(small(*sources)))]
    assert raised == [["98.1"], [], ["98.2"], [], ["98.12"], []]


def test_a_solution_in_two_parts_leaves_a_raise_in_place_of_each():
    source = f"def f(x):\n    {BEGIN}\n    a = 1\n    {END}\n    b = 2\n    {BEGIN}\n    return a + b\n    {END}"
    raised = 'raise NotImplementedError("exercise 98.1")'
    assert blank(source, "98.1") == f"def f(x):\n    {raised}\n    b = 2\n    {raised}"


UNPAIRED = {
    "no end": f"def f():\n    {BEGIN}\n    return 1",
    "no begin": f"def f():\n    return 1\n    {END}",
    "the wrong way round": f"def f():\n    {END}\n    return 1\n    {BEGIN}",
    "nested": f"def f():\n    {BEGIN}\n    {BEGIN}\n    return 1\n    {END}\n    {END}",
    "two begins": f"def f():\n    {BEGIN}\n    {BEGIN}\n    return 1\n    {END}",
    "two ends": f"def f():\n    {BEGIN}\n    return 1\n    {END}\n    {END}",
}


@pytest.mark.parametrize("source", UNPAIRED.values(), ids=UNPAIRED.keys())
def test_markers_that_do_not_pair_up_are_refused_by_lesson_and_exercise(source, tmp_path):
    (tmp_path / "98_slopes.ipynb").write_text(small(source, 'check("98.1", f)'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"98_slopes\.ipynb: the markers of exercise 98\.1 do not pair up"):
        students(tmp_path)
    assert not list((tmp_path / "student").glob("*"))


@pytest.mark.parametrize(
    "source",
    [
        f"def f():\n    a = 1  {BEGIN}\n    return 1\n    {END}",
        f"def f():\n    {BEGIN}\n    return 1  {END}",
        f"def f():\n    a = 1  {BEGIN}\n    return 1  {END}",
        "def f():\n    ### BEGIN SOLUTIONS\n    return 1\n    ### END SOLUTIONS",
        "def f():\n    # begin solution\n    return 1\n    # end solution",
    ],
    ids=["begin behind code", "end behind code", "both behind code", "misspelt", "small letters"],
)
def test_a_marker_that_is_almost_one_is_refused_and_leaks_nothing(source):
    with pytest.raises(ValueError, match=r"a marker of exercise 98\.1 must be '### BEGIN SOLUTION' or .*; got '"):
        student_copy(small(source, 'check("98.1", f)'))


@pytest.mark.parametrize(
    "sources",
    [
        [SOLVED],
        ['check("98.1", slope)', SOLVED],
        [SOLVED, '# check("98.1", slope)'],
        [SOLVED, 'recheck("98.1", slope)'],
        [SOLVED, SOLVED, 'check("98.2", slope)'],
    ],
    ids=["none", "before", "in a comment", "another function", "the next one's"],
)
def test_a_solution_without_a_check_after_it_is_refused_by_lesson(sources, tmp_path):
    (tmp_path / "98_slopes.ipynb").write_text(small(*sources), encoding="utf-8")
    with pytest.raises(ValueError, match=r"98_slopes\.ipynb: a solution has no check after it"):
        students(tmp_path)


def test_a_check_in_prose_is_no_check():
    prose = cell('check("98.7", slope)', "markdown", "prose")
    title, solved, checked = cell("# Lesson", "markdown", "title"), cell(SOLVED), cell('check("98.1", slope)')
    assert code_of(student_copy(notebook(title, solved, prose, checked)))[0] == BLANK


def test_outputs_and_counts_go_and_everything_else_stays():
    lesson = notebook(
        cell("# Lesson\n\nAbout é.\n", "markdown", "title"), cell("print(1)\n", name="one"), cell("x", "markdown", "m")
    )
    before, after = json.loads(lesson), json.loads(student_copy(lesson))
    note = after["cells"].pop(1)
    assert note["cell_type"] == "markdown" and "NotImplementedError" in "".join(note["source"])
    emptied = before["cells"][1] | {"outputs": [], "execution_count": None}
    assert after == before | {"cells": [before["cells"][0], emptied, before["cells"][2]]}
    assert emptied["metadata"] == {"tags": ["long"]} and emptied["id"] == "one"


def test_a_copy_is_a_valid_notebook_in_plain_utf8_that_ends_in_a_newline():
    text = student_copy(small(SOLVED, 'check("98.1", slope)'))
    nbformat.validate(nbformat.reads(text, as_version=4))
    assert text.endswith("}\n") and "é" in text


# A folder of lessons.


def test_every_lesson_of_a_folder_gets_a_copy_in_student_and_stays_as_it_was(tmp_path):
    texts = {f"9{k}_x.ipynb": small(SOLVED, f'check("9{k}.1", slope)') for k in (7, 8)}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert students(tmp_path) == [tmp_path / "student" / name for name in sorted(texts)]
    for _ in range(2):  # a second time writes the same
        for name, text in texts.items():
            assert (tmp_path / name).read_text(encoding="utf-8") == text
            assert (tmp_path / "student" / name).read_bytes() == student_copy(text).encode()
        students(tmp_path)
    assert sorted(path.name for path in (tmp_path / "student").iterdir()) == sorted(texts)


def test_a_folder_without_lessons_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there are no notebooks in"):
        students(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_copies_and_says_so(tmp_path):
    (tmp_path / "98_x.ipynb").write_text(small(SOLVED, 'check("98.1", slope)'), encoding="utf-8")
    command = [sys.executable, "-m", "labkit", "students", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"wrote {tmp_path / 'student' / '98_x.ipynb'}\n"
    assert (tmp_path / "student" / "98_x.ipynb").exists()


# The copies in the repository.


def split(path):
    """The lines of a lesson's code and prose: (those inside solutions, all others), stripped."""
    inside, outside = [], []
    for part in nbformat.read(path, as_version=4).cells:
        solved = False
        for line in map(str.strip, part.source.splitlines()):
            solved = part.cell_type == "code" and line != END and (solved or line == BEGIN)
            if line not in (BEGIN, END):
                (inside if solved else outside).append(line)
    return inside, outside


def test_there_is_a_copy_of_every_lesson_and_of_nothing_else():
    assert sorted(path.name for path in STUDENT.iterdir()) == [path.name for path in LESSONS]


@by_lesson
def test_the_copy_is_that_of_the_lesson_as_it_is_now(path):
    expected = student_copy(path.read_text(encoding="utf-8"))
    assert (STUDENT / path.name).read_bytes().decode() == expected, "run `python -m labkit students`"


@by_lesson
def test_no_line_of_a_solution_is_in_the_copy(path):
    copy = (STUDENT / path.name).read_text(encoding="utf-8")
    cells = json.loads(copy)["cells"]
    lines = {line.strip() for part in cells for line in "".join(part["source"]).splitlines()}
    inside, outside = split(path)
    leaked = {line for line in inside if len(line) > 12 and line not in outside} & lines
    assert not leaked
    assert BEGIN not in copy and END not in copy
    assert lines >= set(outside) and not [part for part in cells if part.get("outputs")]
