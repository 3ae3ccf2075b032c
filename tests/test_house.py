"""The order of the house: imports go down only, nothing heavy is loaded early, no public function swallows keywords."""

import ast
import json
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

import labkit

HOUSE = Path(labkit.__file__).parent
FILES = {
    ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(HOUSE.rglob("*.py"))
}
ROOMS = "base flow nn data training measure show course".split()
#: What each room may import. Everybody may import from a room of his own.
BELOW = {
    "base": set(),
    "flow": {"base"},
    "nn": {"base"},
    "data": {"base"},
    "training": {"base", "flow", "nn", "data"},
    "measure": {"base", "flow", "nn", "data", "training"},
    "show": {"base", "flow", "nn", "data", "training", "measure"},
    "course": {"base", "flow", "nn", "data", "training", "measure", "show"},
    "__main__": {"course"},
}


def imported(source, module, is_package=False):
    """The dotted names inside labkit that the source of `module` imports, wherever in the file it does."""
    package = module if is_package else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
            # `from labkit.nn import mlp` names a file, `from labkit.data import moons` does not.
            for alias in node.names:
                longer = f"{base}.{alias.name}"
                found.add(longer if base == "labkit" or longer in FILES else base)
    return {name for name in found if name.split(".")[0] == "labkit"}


def broken_rules(module, source, is_package=False):
    """One sentence for every import in `source` that goes to no room below, to a room's front door, or to itself."""
    own = module.split(".")[1]
    complaints = []
    for name in sorted(imported(source, module, is_package)):
        there = name.partition(".")[2].partition(".")[0]
        if there not in BELOW:
            complaints.append(f"{module} imports {name}, which is in no room")
        elif there != own and there not in BELOW[own]:
            complaints.append(f"{module} imports {name}, which is not below {own}")
        elif name == module:
            complaints.append(f"{module} imports itself")
        elif name == f"labkit.{there}":
            complaints.append(f"{module} imports from the room {name}; inside the house imports name the file")
    return complaints


def cycle(sources):
    """A cycle among the imports of `sources` {module: source}, or None."""
    graph = {module: imported(source, module) & sources.keys() for module, source in sources.items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return error.args[1]
    return None


def keyword_swallowers(source):
    """The public functions and methods (constructors too) that take **kwargs."""
    functions = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return [f.name for f in functions if f.args.kwarg and (not f.name.startswith("_") or f.name == "__init__")]


def loaded_by(statement):
    """The top-level modules that a fresh interpreter has after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HOUSE.parent)
    return set(json.loads(run.stdout))


@pytest.mark.parametrize("module", FILES)
def test_every_file_stands_in_a_room_and_imports_from_rooms_below_only(module):
    source, is_package = FILES[module].read_text(encoding="utf-8"), FILES[module].name == "__init__.py"
    if module == "labkit":
        assert not [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import | ast.ImportFrom)]
        return
    assert module.split(".")[1] in BELOW, f"{module} is in no room of {list(BELOW)}"
    assert broken_rules(module, source, is_package) == []


def test_imports_inside_a_room_make_no_circle():
    assert cycle({module: path.read_text(encoding="utf-8") for module, path in FILES.items()}) is None


def test_no_file_is_long():
    lengths = {module: len(path.read_bytes().splitlines()) for module, path in FILES.items()}
    most = {module: 700 if ".checks.lesson_" in module else 250 for module in FILES}  # checks name every slip
    assert {module: n for module, n in lengths.items() if n > most[module]} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for_and_opens_the_names_of_its_own_files_only(room):
    source = FILES[f"labkit.{room}"].read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert 2 <= len(re.findall(r"[.](?=\s|$)", ast.get_docstring(tree))) <= 4
    assert all(name.startswith(f"labkit.{room}.") for name in imported(source, f"labkit.{room}", True))
    # A function called like its file would hide the file: `labkit.show.dials` must stay the file.
    opened = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert not opened & {path.stem for path in (HOUSE / room).glob("*.py")}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("labkit.flow.schedules", "from labkit.training.loop import fit"),
        ("labkit.flow.schedules", "from labkit.training import loop"),
        ("labkit.flow.schedules", "import labkit.training.loop as t"),
        ("labkit.flow.schedules", "from ..training.loop import fit"),
        ("labkit.flow.schedules", "def f():\n    if True:\n        from labkit.training.loop import fit"),
        ("labkit.flow.schedules", "from labkit.nn.mlp import MLP"),  # beside is not below
        ("labkit.training.loop", "from labkit.measure.judge import Judge"),
        ("labkit.measure.judge", "from labkit.show.figures import tile"),
        ("labkit.nn.mlp", "from labkit.nn.mlp import MLP"),
        ("labkit.nn.mlp", "from labkit.base import expand_t"),
        ("labkit.data.images", "from labkit.attic import box"),
        ("labkit.data.images", "import labkit"),
    ],
)
def test_the_rule_refuses_an_import_that_goes_up_sideways_or_nowhere(module, source):
    assert len(broken_rules(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("labkit.training.loop", "from labkit.base.runtime import device\nimport torch, labkit.base.files"),
        (
            "labkit.nn.mlp",
            "from labkit.nn.embeddings import Conditioning\nfrom . import embeddings\nfrom ..base.shapes import x",
        ),
        ("labkit.__main__", "from labkit.course.commands.retrain import retrain"),
    ],
)
def test_the_rule_allows_imports_that_go_down_or_stay_in_their_room(module, source):
    assert broken_rules(module, source) == []


def test_the_rule_sees_a_circle():
    a, b, c = (f"labkit.nn.{name}" for name in ("mlp", "unet", "embeddings"))
    line = {a: f"from {b} import x", b: f"def f():\n    import {c}", c: ""}
    assert cycle(line) is None
    assert set(cycle(line | {c: "from .mlp import y"})) == {a, b, c}


def test_no_public_function_takes_any_keyword():
    assert keyword_swallowers("class A:\n    def __init__(self, **k): ...\n    def _p(self, **k): ...") == ["__init__"]
    assert keyword_swallowers("def f(a, **options): ...\ndef g(a, *, b): ...") == ["f"]
    assert {module: keyword_swallowers(path.read_text(encoding="utf-8")) for module, path in FILES.items()} == {
        module: ["takes"] * (module == "labkit.base.inputs") for module in FILES
    }


def test_importing_labkit_loads_nothing_heavy():
    loaded = loaded_by("import labkit")
    assert "labkit" in loaded
    assert not loaded & {"torch", "torchvision", "numpy", "matplotlib", "ipywidgets", "safetensors"}


def test_reading_mnist_does_not_load_torchvision():
    loaded = loaded_by("from labkit.data import mnist32; mnist32('train')")
    assert {"torch", "numpy"} <= loaded
    assert not loaded & {"torchvision", "matplotlib", "ipywidgets", "PIL"}
