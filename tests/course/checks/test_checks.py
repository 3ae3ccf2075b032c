"""Exercises that check themselves: right answers are told so, wrong ones refused with a sentence, in every lesson."""

import importlib.util
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
import torch

from labkit.course import check as checks
from labkit.course.exercises import NotRight, check, checks_of, lessons
from labkit.course.require import gap, require, require_close, require_like, require_number
from labkit.course.students import BEGIN, END

HERE = Path(__file__).parent
NOTEBOOKS = sorted((HERE.parent.parent.parent / "notebooks").glob("*.ipynb"))
CHECK = re.compile(r"\bcheck\(")
ALONE = re.compile(r'check\("(\d\d\.\d+)", (\w+)\)')


# `check` itself, on a lesson that is written here.


@pytest.fixture
def lesson(monkeypatch):
    """A lesson 98 whose one exercise asks for the function that doubles."""

    def doubles(answer):
        require(answer(3) == 6, f"twice 3 is 6; your answer says {answer(3)}")
        return "It doubles."

    monkeypatch.setattr(checks, "lessons", lambda: ["97", "98"])
    monkeypatch.setattr(checks, "checks_of", {"97": {}, "98": {"98.1": doubles, "98.2": doubles}}.__getitem__)


def raising(error):
    def answer(x):
        raise error

    return answer


def test_a_right_answer_is_told_what_is_right_about_it(lesson, capsys):
    assert check("98.1", lambda x: 2 * x) is None
    assert capsys.readouterr().out == "98.1: right. It doubles.\n"


def test_a_wrong_answer_raises_the_sentence_behind_its_number(lesson, capsys):
    with pytest.raises(NotRight, match=r"^98\.2: twice 3 is 6; your answer says 9$") as caught:
        check("98.2", lambda x: x * x)
    # One traceback is enough for a student.
    assert caught.value.__suppress_context__ and caught.value.__cause__ is None
    assert isinstance(caught.value, AssertionError)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "error", [NotImplementedError, NotImplementedError(), NotImplementedError("exercise 98.1")], ids=repr
)
def test_a_blank_is_not_yet_and_no_error(lesson, capsys, error):
    check("98.1", raising(error))
    assert re.fullmatch(r"98\.1: not yet\. .+\n", capsys.readouterr().out)


def test_what_torch_has_not_implemented_is_no_blank(lesson, capsys):
    with pytest.raises(NotImplementedError, match="not implemented for 'Half'"):
        check("98.1", raising(NotImplementedError("\"lu\" not implemented for 'Half'")))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes"), NameError("eps"), AssertionError("mine"), ZeroDivisionError()]
)
def test_other_errors_pass_with_a_note_of_where_they_come_from(lesson, capsys, error):
    with pytest.raises(type(error)) as caught:
        check("98.1", raising(error))
    assert caught.value is error and not isinstance(caught.value, NotRight)
    assert any("exercise 98.1" in note for note in caught.value.__notes__)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("number", ["98.3", "98", "98.1 ", "98.10", 98.1, ""], ids=repr)
def test_an_unknown_exercise_is_refused_by_name(lesson, number):
    with pytest.raises(ValueError, match=rf"no check for exercise {re.escape(repr(number))}"):
        check(number, lambda x: x)


def test_an_unknown_exercise_of_a_known_lesson_names_those_there_are(lesson):
    with pytest.raises(ValueError, match=r"there are 98\.1, 98\.2$"):
        check("98.3", lambda x: x)
    with pytest.raises(ValueError, match=r"there are those of the lessons 97, 98$"):
        check("12.1", lambda x: x)


@pytest.mark.parametrize("answer", [None, 6, torch.tensor(6.0), "twice"], ids=lambda answer: type(answer).__name__)
def test_the_value_of_the_function_is_not_the_function(lesson, answer):
    with pytest.raises(
        TypeError, match=f"the answer to 98.1 must be the function you wrote; got {type(answer).__name__}"
    ):
        check("98.1", answer)


# What checks are made of.


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, r"the slope should be a tensor; it is None: is a `return` missing\?"),
        ("text", "the slope should be a tensor; it is of type str"),
        (1.0, "the slope should be a tensor; it is of type float"),
        (torch.zeros(3), r"the slope should have shape \(3, 1\); it has \(3,\)"),
        (torch.zeros(1, 1), r"the slope should have shape \(3, 1\); it has \(1, 1\)"),
        (torch.tensor([[0.0], [torch.inf], [0.0]]), "the slope holds inf or NaN"),
        (torch.tensor([[0.0], [torch.nan], [0.0]]), "the slope holds inf or NaN"),
    ],
)
def test_what_is_not_like_the_truth_is_refused(value, words):
    with pytest.raises(NotRight, match=f"^{words}$"):
        require_like(value, torch.zeros(3, 1), "the slope")
    require_like(torch.ones(3, 1), torch.zeros(3, 1), "the slope")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, r"w should be a number; it is None: is a `return` missing\?"),
        ("3", "w should be a number; it is of type str"),
        (torch.zeros(2), r"w should be a number; it is a tensor of shape \(2,\)"),
        (float("nan"), "w is nan"),
        (torch.tensor(torch.inf), "w is inf"),
    ],
)
def test_what_is_no_number_is_refused(value, words):
    with pytest.raises(NotRight, match=f"^{words}$"):
        require_number(value, "w")


@pytest.mark.parametrize("value", [2, 2.0, torch.tensor(2.0), torch.tensor([[2]])], ids=str)
def test_a_number_comes_back_as_a_float(value):
    assert require_number(value) == 2.0 and type(require_number(value)) is float


def test_a_known_mistake_is_called_by_its_name_and_another_by_its_size():
    truth = torch.tensor([1.0, -4.0])
    mistakes = {"it is halved": truth / 2, "it is no mistake here": truth.clone(), "it is too long": torch.zeros(3)}
    require_close(truth * (1 + 1e-6), truth, "for two,", mistakes, "Think again")
    require_close(truth.double(), truth, "for two,", mistakes, "Think again")
    for value, words in (
        (truth / 2, "for two, it is halved"),
        (truth + 1, "for two, the answer is off by 25% of the largest entry. Think again"),
        (torch.zeros(3), r"for two, the answer should have shape \(2,\); it has \(3,\)"),
    ):
        with pytest.raises(NotRight, match=f"^{words}$"):
            require_close(value, truth, "for two,", mistakes, "Think again")


def test_the_gap_is_the_largest_one_relative_to_the_largest_entry():
    truth = torch.tensor([1.0, -4.0, 2.0])
    assert gap(truth, truth) == 0
    assert gap(truth + torch.tensor([0.2, 0.0, -0.4]), truth) == pytest.approx(0.1)
    assert gap(truth - torch.tensor([0.0, 1.0, 0.0]), truth) == pytest.approx(0.25)
    assert gap(torch.zeros(2), torch.zeros(2)) == 0 and gap(torch.ones(2), torch.zeros(2)) > 1e6


# The checks of every lesson, with the answers beside this file.


@cache
def answers(lesson):
    """The module answers_NN.py: RIGHT {number: answer} and WRONG {number: [(answer, words of its refusal)]}."""
    path = HERE / f"answers_{lesson}.py"
    assert path.exists(), f"lesson {lesson} has checks, but {path.name} is missing"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def every_exercise():
    return [number for lesson in lessons() for number in checks_of(lesson)]


def every_wrong_answer():
    """(number, answer, words) of all lessons; a lesson without answers fails in a test of its own."""
    found = []
    for number in every_exercise():
        if (HERE / f"answers_{number[:2]}.py").exists():
            for answer, words in answers(number[:2]).WRONG.get(number, []):
                name = getattr(answer, "__name__", type(answer).__name__)
                found.append(pytest.param(number, answer, words, id=f"{number}-{name}"))
    return found


def untouched(number, answer):
    """Call `check`, and see that the randomness and the settings of the student's notebook stay as they were."""
    before = torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        check(number, answer)
    finally:
        assert torch.equal(torch.get_rng_state(), before[0]), "the check draws from torch's global generator"
        assert (torch.is_grad_enabled(), torch.get_default_dtype()) == before[1:]


def test_there_are_lessons_with_checks():
    assert lessons() and lessons() == sorted(set(lessons()))


@pytest.mark.parametrize("lesson", lessons())
def test_exercises_are_numbered_in_order_and_each_has_right_and_wrong_answers(lesson):
    numbers = list(checks_of(lesson))
    assert numbers == [f"{lesson}.{k}" for k in range(1, len(numbers) + 1)] and numbers
    assert sorted(answers(lesson).RIGHT) == sorted(answers(lesson).WRONG) == sorted(numbers)
    assert all(answers(lesson).WRONG.values())


def test_no_answers_are_left_without_a_lesson():
    assert {path.stem.removeprefix("answers_") for path in HERE.glob("answers_*.py")} <= set(lessons())


@pytest.mark.parametrize("seed", [0, 20250])
@pytest.mark.parametrize("number", every_exercise())
def test_the_right_answer_is_told_so(number, seed, capsys):
    torch.manual_seed(seed)
    untouched(number, answers(number[:2]).RIGHT[number])
    assert re.fullmatch(rf"{re.escape(number)}: right\. \S.{{10,}}\n", capsys.readouterr().out, flags=re.DOTALL)


@pytest.mark.parametrize(("number", "answer", "words"), every_wrong_answer())
def test_a_wrong_answer_is_refused_with_its_sentence(number, answer, words, capsys):
    torch.manual_seed(0)
    with pytest.raises(NotRight, match=words) as caught:
        untouched(number, answer)
    assert str(caught.value).startswith(f"{number}: ")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "value", [None, "an answer", -1234.5, torch.zeros(7, 1, 2, 5, 3)], ids=["None", "text", "number", "misshapen"]
)
@pytest.mark.parametrize("number", every_exercise())
def test_what_is_no_answer_at_all_is_not_right_and_nothing_worse(number, value):
    with pytest.raises(NotRight, match=rf"^{re.escape(number)}: \S.{{10,}}"):
        untouched(number, lambda *_, **__: value)


@pytest.mark.parametrize("number", every_exercise())
def test_the_blank_of_every_exercise_is_not_yet(number, capsys):
    def blank(*_, **__):
        raise NotImplementedError(f"exercise {number}")

    untouched(number, blank)
    assert capsys.readouterr().out.startswith(f"{number}: not yet")


# Notebooks and checks belong together.


def code(path):
    """(place among all cells, source) of the code cells of a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return {place: cell.source for place, cell in enumerate(cells) if cell.cell_type == "code"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_lesson_checks_its_exercises_in_order_and_no_others(path):
    numbers = []
    for source in code(path).values():
        if CHECK.search(source):
            alone = ALONE.fullmatch(source.strip())
            assert alone, f'a check stands alone in its cell, as check("02.1", answer); found:\n{source}'
            numbers.append(alone[1])
    assert numbers == (list(checks_of(path.stem[:2])) if path.stem[:2] in lessons() else [])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_check_follows_the_cell_of_its_exercise_and_every_solution_has_one(path):
    cells = code(path)
    exercises = {place for place, source in cells.items() if BEGIN in source or END in source}
    for place in exercises:
        lines = [line.strip() for line in cells[place].splitlines()]
        assert (lines.count(BEGIN), lines.count(END)) == (1, 1) and lines.index(BEGIN) + 1 < lines.index(END)
    checked = {place: ALONE.fullmatch(source.strip()) for place, source in cells.items() if CHECK.search(source)}
    assert {place - 1 for place in checked} == exercises
    for place, found in checked.items():
        assert re.search(rf"^def {found[2]}\(", cells[place - 1], flags=re.MULTILINE)


def test_every_lesson_with_checks_is_one_notebook():
    assert [path.stem[:2] for path in NOTEBOOKS if path.stem[:2] in lessons()] == lessons()
