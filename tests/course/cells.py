"""The code cells of notebooks: which global names they read and bind, and which cells need which."""

import re
import symtable
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("*.ipynb"))
by_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
CHECK = re.compile(r'check\("(\d\d\.\d+)", (\w+)\)')


def code_of(path):
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def tables(table):
    """A symbol table and all those inside it."""
    return [table, *(inner for child in table.get_children() for inner in tables(child))]


def reads(table):
    """The global names that the code of a function or class reads, functions inside it included."""
    return {s.get_name() for t in tables(table) for s in t.get_symbols() if s.is_global() and s.is_referenced()}


def names_of(source, without=()):
    """(read when the cell runs, read by functions and classes in it, bound): the global names of a cell's source."""
    top = symtable.symtable(source, "cell", "exec")
    later = {name for t in top.get_children() if t.get_name() not in without for name in reads(t)}
    bound = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    bound |= {s.get_name() for t in tables(top) for s in t.get_symbols() if s.is_declared_global() and s.is_assigned()}
    return {s.get_name() for s in top.get_symbols() if s.is_referenced()}, later, bound


def needed(sources, wanted):
    """The places of the wanted cells and of all cells that bind a name which they need, in order."""
    names, chosen, rest = [names_of(source) for source in sources], set(), list(wanted)
    while rest:
        place = rest.pop()
        if place not in chosen:
            chosen.add(place)
            for name in names[place][0] | names[place][1]:
                rest += [k for k in range(place) if name in names[k][2]][-1:]  # the last cell before that binds it
    return sorted(chosen)
