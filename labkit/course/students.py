"""`python -m labkit students`: the student copies of the lessons, with the exercises left blank.

One source: a solution stands in the lesson between the lines `### BEGIN SOLUTION` and `### END SOLUTION`, the markers
of nbgrader. In the copy one line that raises NotImplementedError stands in its place, and there are no outputs.
"""

import json
import re
from pathlib import Path

from labkit.base.files import atomic_write

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
MARKER = re.compile(r"#\s*(BEGIN|END) SOLUTION", flags=re.IGNORECASE)  # or what was meant to be one
SOLUTION = re.compile(rf"^([ \t]*){BEGIN}.*?{END}", flags=re.MULTILINE | re.DOTALL)
NOTE = (
    "> **Student copy.** Each exercise has a blank that raises `NotImplementedError`. Put your lines in its place and "
    "run the check below it. What follows works without your answer, so you can read on and come back."
)


def students(folder: Path = Path("notebooks")) -> list[Path]:
    """Write a student copy of every lesson in `folder` to `folder/student` and return the paths.

    Raises ValueError for a folder without lessons, and for a lesson whose markers do not pair up.
    """
    lessons = sorted(folder.glob("*.ipynb"))
    if not lessons:
        raise ValueError(f"there are no notebooks in {folder}")
    (folder / "student").mkdir(exist_ok=True)
    written = []
    for lesson in lessons:
        try:
            text = student_copy(lesson.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{lesson}: {error}") from error
        written.append(folder / "student" / lesson.name)
        with atomic_write(written[-1]) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return written


def student_copy(lesson: str) -> str:
    """The text of a lesson's notebook file to the text of its student copy's."""
    notebook = json.loads(lesson)
    cells = notebook["cells"]
    for place, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
            source = "".join(cell["source"])
            if MARKER.search(source):
                cell["source"] = blank(source, _exercise(cells[place:])).splitlines(keepends=True)
    cells.insert(1, {"cell_type": "markdown", "id": "student-copy", "metadata": {}, "source": [NOTE]})
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def blank(source: str, number: str) -> str:
    """A cell's source with every solution replaced by a line that raises, indented as its marker is."""
    markers = [line.strip() for line in source.splitlines() if MARKER.search(line)]
    for marker in markers:  # misspelt or behind code, it would leave the solution in the copy
        if marker not in (BEGIN, END):
            wanted = f"must be {BEGIN!r} or {END!r} on a line of its own"
            raise ValueError(f"a marker of exercise {number} {wanted}; got {marker!r}")
    if markers != [BEGIN, END] * (len(markers) // 2):
        raise ValueError(f"the markers of exercise {number} do not pair up")
    return SOLUTION.sub(rf'\1raise NotImplementedError("exercise {number}")', source)


def _exercise(cells: list[dict]) -> str:
    """The number of the exercise solved in the first of these cells: that of the check before the next solution."""
    for place, cell in enumerate(cell for cell in cells if cell["cell_type"] == "code"):
        source = "".join(cell["source"])
        if found := re.search(r'^check\("(\d\d\.\d+)"', source, flags=re.MULTILINE):
            return found[1]
        if place and MARKER.search(source):
            break
    raise ValueError("a solution has no check after it")
