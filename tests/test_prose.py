"""Prose and figures of the lessons: every number that prose quotes is one that the lesson printed, and every lesson
keeps to one notation, one style of references and one order of its last sections."""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
every_lesson = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

#: Numbers of prose that no run can print, by lesson, and what they are.
GIVEN: dict[str, dict[str, str]] = {
    "02": {"95%": "what typical means", "1.6": "a factor to try"},
    "03": {"95%": "what typical means"},
    "05": {"70%": "how far the rescaled field is rescaled"},
}

FORMULAS = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", flags=re.DOTALL)
EXERCISE = re.compile(r"\b0\d\.\d\b")  # 02.1 is a name
NUMBER = re.compile(r"(?<![\w.])(\d*\.\d+|\d+(?=%))(%?)")
PRINTED = re.compile(r"(?<![\w.])(\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?:e([+-]?\d+))?(%?)")


def prose(notebook):
    """The text of a lesson up to its references, without code and formulas."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return FORMULAS.sub(" ", text.split("## References")[0])


def quoted(text):
    """Decimal numbers and percentages of a text, as they stand there."""
    return [number + percent for number, percent in NUMBER.findall(EXERCISE.sub(" ", text))]


def printed(notebook):
    """(value, decimals) of every number in what the lesson printed; a share is there as a percentage, too."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    found = []
    for number, power, percent in PRINTED.findall("\n".join(output.get("text", "") for output in outputs)):
        decimals = len(number.partition(".")[2]) - int(power or 0)
        value = float(number.replace(",", "")) * 10.0 ** int(power or 0)
        found.append((value, decimals, percent))
        found.append((value / 100, decimals + 2, "") if percent else (100 * value, decimals - 2, "%"))
    return found


def is_printed(number, found):
    """Whether some number of the outputs, which is at least as exact, rounds to the one that is quoted."""
    percent, value = number[-1] == "%", float(number.rstrip("%"))
    decimals = len(number.rstrip("%").partition(".")[2])
    return any(
        (unit == "%") == percent and known >= decimals and abs(other - value) <= 0.5 * 10.0**-decimals + 1e-9
        for other, known, unit in found
    )


def test_the_comparison_finds_what_was_printed_in_other_digits_or_as_a_share_and_nothing_else():
    found = printed(notebook_of(code("loss 0.7852, share 82.4% (80.1% to 84%), 1.2e-03 and 12,345.6, w = 8\n", "x")))
    for number in ("0.79", "0.785", "82%", "82.4%", "0.82", "84%", "0.0012", "12345.6", "79%"):
        assert is_printed(number, found), number
    for number in ("0.78", "0.7853", "83%", "82.41%", "84.0%", "8.0", "0.002"):
        assert not is_printed(number, found), number
    text = prose(
        notebook_of("A share of 82% in `0.5` and $w=1.5$, see 02.1 and section 3. It is .5, 0.25.\n## References\n0.7")
    )
    assert quoted(text) == ["82%", ".5", "0.25"]


def notebook_of(*cells):
    made = [nbformat.v4.new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    return nbformat.v4.new_notebook(cells=made)


def code(text, source):
    return nbformat.v4.new_code_cell(source, outputs=[nbformat.v4.new_output("stream", text=text)])


@every_lesson
def test_numbers_in_prose_are_those_that_were_printed(path):
    notebook, given = nbformat.read(path, as_version=4), GIVEN.get(path.stem[:2], {})
    numbers, found = set(quoted(prose(notebook))), printed(notebook)
    assert sorted(number for number in numbers - given.keys() if not is_printed(number, found)) == []
    assert given.keys() <= numbers, "a number is excused that prose no longer holds"


@every_lesson
def test_a_lesson_says_how_long_it_takes_to_read_and_to_run(path):
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    first = "\n".join(cells).partition("\n## 1 ·")[0]
    assert re.search(r"[Rr]eading", first) and re.search(r"[Rr]unning", first) and "hour" in first


@every_lesson
def test_the_last_sections_are_the_same_everywhere(path):
    cells = nbformat.read(path, as_version=4).cells
    headings = re.findall(r"^## (.*)$", "\n".join(c.source for c in cells if c.cell_type == "markdown"), re.MULTILINE)
    assert headings[-4:] == ["What people get wrong here", "Try it", "Summary", "References"]
    numbers = [int(found[1]) for heading in headings if (found := re.match(r"(\d+) ·", heading))]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 4


@every_lesson
def test_every_reference_has_a_year_and_a_link(path):
    cells = nbformat.read(path, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown").partition("## References\n")[2]
    items = [item for item in re.split(r"^- ", text, flags=re.MULTILINE)[1:]]
    assert len(items) >= 4
    for item in items:
        assert re.search(r"\]\(https://[^)\s]+\)", item), item
        assert re.search(r"\b(19|20)\d\d\b", item) or item.startswith("Data"), item
        assert not item.startswith(("*", "[")), f"authors first: {item}"


@every_lesson
def test_one_notation_in_all_lessons(path):
    cells = nbformat.read(path, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    formulas = "\n".join(re.findall(r"\$\$.*?\$\$|\$[^$]*\$", text, flags=re.DOTALL))
    for wrong, right in {
        r"\\nabla\s*(\\!)?\s*\\cdot": r"\operatorname{div}",
        r"(?<!\\mathcal )(?<![\\a-zA-Z])N\(": r"\mathcal N(",
        r"p_\{?(\\text|\\mathrm|\\rm)?\s*\{?data": "p(z)",
        r"∎|\\blacksquare|\\qed": r"\square",
    }.items():
        found = re.search(wrong, formulas if "N\\(" in wrong else text)
        assert not found, f"write {right} in place of {found[0]}"
