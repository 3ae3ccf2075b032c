"""The order of the house: imports go down only, nothing heavy is loaded early, no public function swallows keywords."""

import ast
import json
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
STOREYS = [
    "shapes runtime",
    "assets schedules mixtures solvers metrics",
    "paths nn",
    "exact losses fields",
    "data training pretrained sampling clouds",
    "judge plotting diagrams plane player checks",
    "widgets",
    "commands",
    "__main__",  # starts the commands, so it stands one step above them
]
FLOOR = {name: floor for floor, names in enumerate(STOREYS) for name in names.split()}


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
    """One sentence for every import in `source` that does not go strictly down, or stays in its own package."""
    own = module.split(".")[1]
    complaints = []
    for name in sorted(imported(source, module, is_package)):
        there = name.partition(".")[2].partition(".")[0]
        if there not in FLOOR:
            complaints.append(f"{module} imports {name}, which is on no floor")
        elif there != own and FLOOR[there] >= FLOOR[own]:
            complaints.append(f"{module} (floor {FLOOR[own]}) imports {name} (floor {FLOOR[there]})")
        elif name == module:
            complaints.append(f"{module} imports itself")
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
def test_every_file_stands_on_a_floor_and_imports_go_strictly_down(module):
    source, is_package = FILES[module].read_text(encoding="utf-8"), FILES[module].name == "__init__.py"
    if module == "labkit":
        assert not [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import | ast.ImportFrom)]
        return
    assert module.split(".")[1] in FLOOR, f"{module} is on no floor of {STOREYS}"
    assert broken_rules(module, source, is_package) == []


def test_imports_inside_a_package_make_no_circle():
    assert cycle({module: path.read_text(encoding="utf-8") for module, path in FILES.items()}) is None


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("labkit.schedules", "from labkit.training import fit"),
        ("labkit.schedules", "from labkit import training"),
        ("labkit.schedules", "import labkit.training as t"),
        ("labkit.schedules", "from .training import fit"),
        ("labkit.schedules", "from . import training"),
        ("labkit.schedules", "def f():\n    if True:\n        from labkit.training import fit"),
        ("labkit.schedules", "from labkit.solvers import euler"),  # the same floor is not down
        ("labkit.nn.mlp", "from ..paths import GaussianPath"),
        ("labkit.nn.mlp", "from labkit.nn.mlp import MLP"),
        ("labkit.data", "from labkit.attic import box"),
        ("labkit.data", "import labkit"),
    ],
)
def test_the_rule_refuses_an_import_that_goes_up_sideways_or_nowhere(module, source):
    assert len(broken_rules(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("labkit.training", "from labkit.runtime import device\nimport torch, labkit.assets"),
        (
            "labkit.nn.mlp",
            "from labkit.nn.embeddings import Conditioning\nfrom . import embeddings\nfrom ..shapes import x",
        ),
        ("labkit.__main__", "from labkit.commands.retrain import retrain"),
    ],
)
def test_the_rule_allows_imports_that_go_down_or_stay_in_their_package(module, source):
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
        module: [] for module in FILES
    }


def test_importing_labkit_loads_nothing_heavy():
    loaded = loaded_by("import labkit")
    assert "labkit" in loaded
    assert not loaded & {"torch", "torchvision", "numpy", "matplotlib", "ipywidgets", "safetensors"}


def test_reading_mnist_does_not_load_torchvision():
    loaded = loaded_by("from labkit.data import mnist32; mnist32('train')")
    assert {"torch", "numpy"} <= loaded
    assert not loaded & {"torchvision", "matplotlib", "ipywidgets", "PIL"}
