"""Exercises that check themselves: right answers are told so, wrong ones refused with a sentence, in every lesson."""

import copy
import importlib.util
import random
import re
from collections import namedtuple
from functools import cache
from pathlib import Path

import nbformat
import numpy
import pytest
import torch

from labkit.course.checks import check as checks
from labkit.course.checks.check import MOST, NotRight, accepted, check, checks_of, guarded, lessons
from labkit.course.checks.require import (
    as_tensor,
    gap,
    require,
    require_close,
    require_like,
    require_number,
    require_verdict,
    seeded,
)
from labkit.course.students import BEGIN, END

HERE = Path(__file__).parent
MANY = 10  # right and wrong answers of every exercise, at least
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


def test_a_lesson_goes_on_with_the_answer_accepted_last_or_with_its_own(lesson, monkeypatch):
    monkeypatch.setattr(checks, "_ACCEPTED", {})

    def own(x):
        return 2 * x

    def added(x):
        return x + x

    assert accepted("98.1", otherwise=own) is own
    check("98.1", raising(NotImplementedError("exercise 98.1")))
    with pytest.raises(NotRight):
        check("98.1", abs)
    assert accepted("98.1", otherwise=own) is own
    check("98.1", added)
    assert accepted("98.1", otherwise=own) is added and accepted("98.2", otherwise=own) is own


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
    "error",
    [
        RuntimeError("mat1 and mat2"),
        IndexError("too far"),
        NameError("eps"),
        AssertionError("mine"),
        ZeroDivisionError(),
    ],
    ids=repr,
)
def test_an_error_inside_the_answer_is_told_with_its_line_and_is_the_cause(lesson, capsys, error):
    words = f"98.1: your function stopped in the line `raise error` with {type(error).__name__}"
    said = f"{words}: {error}. It was given x = 3." if str(error) else f"{words}. It was given x = 3."
    with pytest.raises(NotRight, match=f"^{re.escape(said)}$") as caught:
        check("98.1", raising(error))
    assert caught.value.__cause__ is error
    assert capsys.readouterr().out == ""


def test_what_the_check_makes_no_sense_of_passes_with_a_note(lesson):
    class Odd:
        def __eq__(self, other):
            raise ArithmeticError("odd")

    with pytest.raises(ArithmeticError, match="odd") as caught:
        check("98.1", lambda x: Odd())
    assert any("exercise 98.1 could not make sense" in note for note in caught.value.__notes__)


X, T = torch.arange(6.0).reshape(3, 2), torch.linspace(0, 1, 3)


def multiplied(x, t):
    scaled = t * x
    return scaled


@pytest.mark.parametrize(
    ("answer", "given", "words"),
    [
        (multiplied, (X, T), r"in the line `scaled = t \* x` with RuntimeError: The size of tensor a .*\. "
         r"It was given x of shape \(3, 2\), t of shape \(3,\)\. .*expand_t\(t, x\)"),
        (lambda q, k: q @ k, (X, X), r"with RuntimeError: .*It was given q of shape .*\(3, 2\)\.$"),  # no time, no hint
        (lambda x: x[5], (X,), "with IndexError: index 5 is out of bounds"),
        (multiplied, (X, T, 2.0), r"with TypeError: multiplied\(\) takes 2 .* x of .*, t of .*, number 3 = 2\.0"),
        (multiplied, (X, "linear"), r"in the line .* with TypeError: .* x of shape \(3, 2\), t = 'linear'\.$"),
        (lambda f, x: f(x), (torch.linalg.inv, X), r"with .*must be batches of square matrices"),
        (torch.linalg.inv, (X,), "your function stopped with"),
        (dict.fromkeys, (3,), r"with TypeError: 'int' object is not iterable"),  # no line and no signature
    ],
)  # fmt: skip
def test_where_it_stopped_and_what_it_was_given_are_told(answer, given, words):
    with pytest.raises(NotRight, match=words):
        guarded(answer)(*given)


def test_an_error_in_what_it_returns_or_yields_is_told_too():
    def later(x, t):
        yield x
        yield multiplied(x, t)

    for answer, given in ((later, (X, T)), (lambda: multiplied, ())):
        with pytest.raises(NotRight, match="with RuntimeError: The size of tensor"):
            made = guarded(answer)(*given)
            made(X, T)  # of the first the error comes before
    assert guarded(lambda n: iter(range(n)))(3) == [0, 1, 2]
    assert len(guarded(lambda: iter(int, 1))()) == MOST  # one without an end
    network = torch.nn.Linear(2, 2)
    assert guarded(lambda: network)() is network and guarded(lambda: lambda x: 2 * x)()(X).equal(2 * X)


def adds(x):
    x += 1
    return x


def flips(x):
    return x.t_()


def first_of(parts):
    parts[0].zero_()


def deeper(parts):
    parts[0][0].mul_(3)


def value_of(parts):
    parts["x"].mul_(2)


def pops(parts):
    return parts.pop()


Pair = namedtuple("Pair", "x t")


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        (adds, X), (flips, X), (first_of, [X, X]), (first_of, (X, X)), (first_of, Pair(X + 1, T)),
        (deeper, [(X, 3), 1]), (value_of, {"x": X}), (pops, [1, 2]), (dict.clear, {"x": 1}),
        (lambda x: x.numpy().fill(7), X), (lambda x: x.index_fill_(0, torch.tensor([1]), torch.nan), X),
    ],
)  # fmt: skip
def test_an_answer_that_changes_its_argument_is_found_out_and_harms_nobody(answer, given):
    before, changed = copy.deepcopy(given), set()
    guarded(answer, changed)(given)
    assert len(changed) == 1
    torch.testing.assert_close(given, before, rtol=0, atol=0)


def test_in_place_is_a_style_and_said_beside_the_verdict(lesson, monkeypatch, capsys):
    def doubles(answer):
        require(answer(X).equal(2 * X), "not doubled.")
        return "It doubles."

    monkeypatch.setattr(checks, "checks_of", {"98": {"98.1": doubles}}.__getitem__)
    check("98.1", lambda x: x.mul_(2))
    assert re.fullmatch(
        r"98\.1: right\. It doubles\. By the way: .* its argument x in place, .*\n", capsys.readouterr().out
    )
    used = X.clone()
    assert accepted("98.1", otherwise=abs)(used).equal(2 * X) and used.equal(X)  # what follows is not harmed either
    with pytest.raises(NotRight, match=r"^98\.1: not doubled\. By the way: .* its argument x in place"):
        check("98.1", lambda x: x.mul_(3))


def test_what_is_given_arrives_as_it_is():
    generator, nan = torch.Generator(), torch.full((2,), torch.nan)
    given = (X, [X, 1], {"t": T}, Pair(X, T), generator, "word", nan, torch.arange(3), X.requires_grad_(False))
    seen = guarded(lambda *parts: list(parts))(*given)
    assert [type(part) for part in seen] == [type(part) for part in given] and seen[4] is generator
    torch.testing.assert_close(seen[:4], list(given[:4]), rtol=0, atol=0)
    assert seen[0].data_ptr() != X.data_ptr() and seen[6].isnan().all()


def test_gradients_pass_through_to_what_was_given():
    x = torch.ones(3, requires_grad=True)
    guarded(lambda x: x.mul(2))(x).sum().backward()
    assert x.grad.equal(torch.full((3,), 2.0))


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


ROWS = [[0.5, -1.0], [2.0, 0.25]]


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor(ROWS),
        torch.tensor(ROWS).to_sparse(),
        numpy.array(ROWS, dtype=numpy.float32),
        numpy.array(ROWS)[::-1][::-1],
        ROWS,
        tuple(torch.tensor(ROWS)),
    ],
    ids=["tensor", "sparse", "float32", "strides", "lists", "tensors"],
)
def test_numbers_are_a_tensor_whatever_holds_them(value):
    torch.testing.assert_close(as_tensor(value).float(), torch.tensor(ROWS), rtol=0, atol=0)


def test_whole_numbers_in_arrays_are_decimal_unless_they_are_asked_for():
    assert as_tensor([1, 0]).is_floating_point() and as_tensor(numpy.array([True, False])).is_floating_point()
    assert not as_tensor(numpy.array([1, 0]), whole=True).is_floating_point()
    assert as_tensor(torch.tensor([1, 0]), whole=True).dtype == torch.int64


@pytest.mark.parametrize("value", [None, "text", 3, [], [[1.0], [2.0, 3.0]], [torch.ones(1), torch.ones(2)]], ids=str)
def test_what_is_no_tensor_stays_what_it_is(value):
    assert not isinstance(as_tensor(value), torch.Tensor) or value == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.tensor([1j]), "x should hold decimal numbers, not complex ones"),
        (numpy.array([1j]), "x should hold decimal numbers, not complex ones"),
        (torch.tensor([1]), "x should hold decimal numbers, not torch.int64"),
        (torch.tensor([True]), "x should hold decimal numbers, not torch.bool"),
        (torch.empty(2, device="meta"), "x lies on the device `meta`, where tensors have shapes and no numbers"),
    ],
    ids=str,
)
def test_what_holds_no_decimal_numbers_is_refused(value, words):
    with pytest.raises(NotRight, match=f"^{words}$"):
        as_tensor(value, "x")


def test_a_tensor_keeps_its_gradient():
    x = torch.ones(2, requires_grad=True)
    as_tensor([2 * x, 3 * x]).sum().backward()
    assert x.grad.tolist() == [5, 5]


def test_seeded_repeats_every_global_generator_and_puts_it_back():
    def drawn():
        return torch.rand(()).item(), random.random(), numpy.random.rand()

    torch.manual_seed(1), random.seed(1), numpy.random.seed(1)
    expected = drawn()
    torch.manual_seed(1), random.seed(1), numpy.random.seed(1)
    inside = []
    for _ in range(2):
        with seeded(7):
            inside.append(drawn())
    assert inside[0] == inside[1] != expected and drawn() == expected


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
        (torch.zeros(3, 1, dtype=torch.int64), "the slope should hold decimal numbers, not torch.int64"),
        (torch.zeros(3, 1, dtype=torch.complex64), "the slope should hold decimal numbers, not torch.complex64"),
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
        (1j, "w should be a number; it is of type complex"),
        (torch.tensor(1j), "w should hold decimal numbers, not complex ones"),
    ],
)
def test_what_is_no_number_is_refused(value, words):
    with pytest.raises(NotRight, match=f"^{words}$"):
        require_number(value, "w")


@pytest.mark.parametrize("value", [2, 2.0, torch.tensor(2.0), torch.tensor([[2]]), numpy.array([2])], ids=str)
def test_a_number_comes_back_as_a_float(value):
    assert require_number(value) == 2.0 and type(require_number(value)) is float


@pytest.mark.parametrize("value", [True, numpy.bool_(True), torch.tensor(True), torch.tensor([True])], ids=repr)
def test_a_verdict_comes_back_as_a_bool(value):
    assert require_verdict(value) is True and require_verdict(not value) is False


@pytest.mark.parametrize("value", [None, 1, "True", torch.tensor(1.0), torch.tensor([True, False])], ids=repr)
def test_what_is_no_verdict_is_refused(value):
    with pytest.raises(NotRight, match="the answer should be True or False; it is "):
        require_verdict(value)


def test_a_known_mistake_is_called_by_its_name_and_another_by_its_size():
    truth = torch.tensor([1.0, -4.0])
    mistakes = {"it is halved": truth / 2, "it is no mistake here": truth.clone(), "it is too long": torch.zeros(3)}
    require_close(truth * (1 + 1e-6), truth, "for two,", mistakes, "Think again")
    require_close(truth.double(), truth, "for two,", mistakes, "Think again")
    for value, words in (
        (truth / 2, "for two, it is halved"),
        (truth + 1, "for two, the answer is off by 25% of the largest entry. Think again"),
        (truth - 0.008, "for two, the answer is off by 0.2% of the largest entry. Think again"),
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
    """The module answers_NN.py: RIGHT {number: [answer]} and WRONG {number: [(answer, words of its refusal)]}."""
    path = HERE / f"answers_{lesson}.py"
    assert path.exists(), f"lesson {lesson} has checks, but {path.name} is missing"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def every_exercise():
    return [number for lesson in lessons() for number in checks_of(lesson)]


def name_of(answer):
    return getattr(answer, "__name__", type(answer).__name__)


def every_right_answer():
    """(number, answer) of all lessons."""
    return [
        pytest.param(number, answer, id=f"{number}-{name_of(answer)}")
        for number in every_exercise()
        if (HERE / f"answers_{number[:2]}.py").exists()
        for answer in answers(number[:2]).RIGHT.get(number, [])
    ]


def every_wrong_answer():
    """(number, answer, words) of all lessons; a lesson without answers fails in a test of its own."""
    found = []
    for number in every_exercise():
        if (HERE / f"answers_{number[:2]}.py").exists():
            for answer, words in answers(number[:2]).WRONG.get(number, []):
                found.append(pytest.param(number, answer, words, id=f"{number}-{name_of(answer)}"))
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
    for number in numbers:  # in other styles, and wrong in other ways: no check knows one solution only
        right, wrong = answers(lesson).RIGHT[number], [answer for answer, _ in answers(lesson).WRONG[number]]
        assert len(set(right)) >= MANY and len(set(wrong)) >= MANY, f"{number}: {len(right)} right, {len(wrong)} wrong"


def test_no_answers_are_left_without_a_lesson():
    assert {path.stem.removeprefix("answers_") for path in HERE.glob("answers_*.py")} <= set(lessons())


@pytest.mark.parametrize(("number", "answer"), every_right_answer())
def test_a_right_answer_in_any_style_is_told_so(number, answer, capsys):
    torch.manual_seed(20250)
    untouched(number, answer)
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
        assert re.search(rf"^(def|class) {found[2]}\(", cells[place - 1], flags=re.MULTILINE)


def test_every_lesson_with_checks_is_one_notebook():
    assert [path.stem[:2] for path in NOTEBOOKS if path.stem[:2] in lessons()] == lessons()
