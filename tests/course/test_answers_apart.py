"""An answer stands apart: nothing of a lesson but its check reaches it, and it reaches nothing of the lesson.

So a cell outside of the exercises does in a student copy what it does in the lesson, which runs from top to bottom
(nbval): the copy differs by the lines of its solutions alone (test_students). What remains is run by test_unsolved.
"""

import ast
import builtins
import re
import symtable

import pytest
from cells import CHECK, by_lesson, code_of, names_of, reads, tables

from labkit.course.students import BEGIN, END, blank

SECRET = {"globals", "locals", "vars", "eval", "exec", "get_ipython", "In", "Out"}  # reach what cannot be read off


def answers_in(source):
    """The functions of an exercise's cell that hold its solutions; AssertionError if a solution stands outside."""
    tree = ast.parse(blank(source, "98.1"))
    blanks = {
        node.name: sum(
            isinstance(inner, ast.Raise) and "exercise 98.1" in ast.unparse(inner) for inner in ast.walk(node)
        )
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert sum(blanks.values()) == source.count(BEGIN), "a solution stands outside of a function or class"
    return {name for name, count in blanks.items() if count}


def complaints(sources):
    """What could keep the copy of a lesson with these code cells from running as the lesson does."""
    found, copy = [], [blank(source, "98.1") if BEGIN in source else source for source in sources]
    harmless = set(dir(builtins)) - SECRET
    for place, source in enumerate(sources):
        now, later, _ = names_of(source)
        found += [f"cell {place} uses {name}" for name in sorted((now | later) & SECRET)]
        for node in ast.parse(source).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                harmless |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        if BEGIN not in source:
            functions = [
                t for t in symtable.symtable(source, "cell", "exec").get_children() if t.get_type() == "function"
            ]
            harmless |= {t.get_name() for t in functions if reads(t) <= harmless | {t.get_name()}}
            continue
        answers = answers_in(source)
        for table in symtable.symtable(source, "cell", "exec").get_children():
            if table.get_name() in answers:
                reached = reads(table) - harmless - {table.get_name()}
                reached |= {s.get_name() for t in tables(table) for s in t.get_symbols() if s.is_declared_global()}
                found += [f"a solution in cell {place} reaches {name}" for name in sorted(reached)]
        found += [f"a solution in cell {place} changes {name}" for name in sorted(changed_by(source) & harmless)]
        for answer in answers:
            found += [f"cell {k} uses {answer}" for k in users(answer, place, copy, answers)]
    return found


def users(answer, place, copy, answers):
    """The cells of a copy that may call the answer defined in the cell at `place`, its check left out."""
    for k, source in enumerate(copy):
        now, later, bound = names_of(source, without=answers if k == place else ())
        checks = CHECK.fullmatch(source)
        if answer in (later if k < place else now | later) and not (checks and checks[2] == answer):
            yield k
        if k > place and answer in bound:
            return  # from here on the name means something else


def changed_by(source):
    """Names whose attributes or entries are assigned to in a cell: m in `m.a = 1`, `m.a[0] += 1` and `del m[0]`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            while isinstance(node, ast.Attribute | ast.Subscript):
                node = node.value
            found |= {node.id} if isinstance(node, ast.Name) else set()
    return found


EXERCISE = f"def f(x):\n    {BEGIN}\n    return np.sin(x)\n    {END}"
CHECKED = 'check("98.1", f)'
IMPORTS = "import numpy as np\nfrom labkit.course import check"
SOUND = {
    "a plain lesson": [IMPORTS, EXERCISE, CHECKED, "g = np.cos\nprint(g(1))"],
    "the name is another's inside": [EXERCISE, CHECKED, "def h(f, x):\n    return f(x)\n\n\n[f for f in (1, 2)]"],
    "the name is bound anew": [EXERCISE, CHECKED, "f = abs", "f(3)"],
    "the name was another's before": ["f = 3", "print(f)", EXERCISE, CHECKED],
    "it calls itself": [EXERCISE.replace("    ###", "    if x > 1:\n        return f(x - 1)\n    ###", 1), CHECKED],
    "it uses a function of the lesson": ["def g(x):\n    return x", EXERCISE.replace("np.sin", "g"), CHECKED],
    "attributes of its own": [EXERCISE.replace("return", "x.a = 1\n    return"), CHECKED],
}
BROKEN = {
    "a later cell calls it": ([EXERCISE, CHECKED, "f(3)"], "cell 2 uses f"),
    "a later cell hands it on": ([EXERCISE, CHECKED, "list(map(f, [1]))"], "cell 2 uses f"),
    "a later cell gives it another name": ([EXERCISE, CHECKED, "g = f", "g(3)"], "cell 2 uses f"),
    "a later function calls it": ([EXERCISE, CHECKED, "def g(x):\n    return 2 * f(x)"], "cell 2 uses f"),
    "a later lambda calls it": ([EXERCISE, CHECKED, "g = lambda x: f(x)"], "cell 2 uses f"),
    "a later class holds it": ([EXERCISE, CHECKED, "class A:\n    g = f"], "cell 2 uses f"),
    "a later cell lists it": ([EXERCISE, CHECKED, "[f(k) for k in (1, 2)]"], "cell 2 uses f"),
    "an earlier function calls it": (["def g(x):\n    return f(x)", EXERCISE, CHECKED, "g(1)"], "cell 0 uses f"),
    "it is bound anew too late": ([EXERCISE, CHECKED, "f = f(1)", "f"], "cell 2 uses f"),
    "its own cell calls it": ([f"{EXERCISE}\n\n\nf(1)", CHECKED], "cell 0 uses f"),
    "a function beside it calls it": ([f"{EXERCISE}\n\n\ndef g(x):\n    return f(x)", CHECKED], "cell 0 uses f"),
    "more stands in the check's cell": ([EXERCISE, f"{CHECKED}\nf(1)"], "cell 1 uses f"),
    "the check of another": ([EXERCISE, 'check("98.1", g)\nprint(f)'], "cell 1 uses f"),
    "found by its name": ([EXERCISE, CHECKED, 'globals()["f"](1)'], "cell 2 uses globals"),
    "evaluated": ([EXERCISE, CHECKED, "def g():\n    return eval('f(1)')"], "cell 2 uses eval"),
    "a solution uses another answer": (
        [EXERCISE, CHECKED, EXERCISE.replace("f(x)", "g(x)").replace("np.sin", "f"), 'check("98.2", g)'],
        "a solution in cell 2 reaches f",
    ),
    "a solution appends to a list": (
        ["log = []", EXERCISE.replace("return", "log.append(x)\n    return"), CHECKED, "print(log)"],
        "a solution in cell 1 reaches log",
    ),
    "a solution draws from the lesson's generator": (
        ["generator = 0", EXERCISE.replace("np.sin(x)", "(lambda: generator)()"), CHECKED],
        "a solution in cell 1 reaches generator",
    ),
    "a solution calls what draws from the lesson's generator": (
        ["generator = 0\n\n\ndef g(x):\n    return generator", EXERCISE.replace("np.sin", "g"), CHECKED],
        "a solution in cell 1 reaches g",
    ),
    "a solution binds a global name": (
        [EXERCISE.replace("return", "global seen\n    seen = x\n    return"), CHECKED, "print(seen)"],
        "a solution in cell 0 reaches seen",
    ),
    "a solution changes a module": (
        [EXERCISE.replace("return", "np.pi = 3\n    return"), CHECKED],
        "a solution in cell 1 changes np",
    ),
}  # fmt: skip


@pytest.mark.parametrize("sources", SOUND.values(), ids=SOUND)
def test_a_lesson_whose_copy_runs_is_not_complained_of(sources):
    assert complaints([IMPORTS, *sources]) == []


@pytest.mark.parametrize(("sources", "complaint"), BROKEN.values(), ids=BROKEN)
def test_a_lesson_whose_copy_may_not_run_is_complained_of(sources, complaint):
    shift = int("changes np" not in complaint)  # cells are counted without the imports put before them
    counted = re.sub(r"cell (\d)", lambda found: f"cell {int(found[1]) + shift}", complaint)
    assert counted in complaints([IMPORTS, *sources])


@pytest.mark.parametrize(
    "source",
    [
        f"x = 1\n{BEGIN}\nx = 2\n{END}",
        f"class A:\n    pass\n{BEGIN}\nA.f = abs\n{END}",
        f"if True:\n    def f():\n        {BEGIN}\n        return 1\n        {END}",
    ],
    ids=["at the top", "behind a class", "under a condition"],
)
def test_a_solution_outside_of_a_function_is_refused(source):
    with pytest.raises(AssertionError, match="a solution stands outside of a function"):
        complaints([source])


@by_lesson
def test_no_cell_but_its_check_reaches_an_answer_and_no_answer_reaches_the_lesson(path):
    assert complaints(code_of(path)) == []
