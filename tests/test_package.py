"""The package as others get it: a wheel that carries its data, and one list of requirements with floors and no caps."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

USE_IT = """
import json, pathlib, labkit
from labkit.data import mnist32
from labkit.measure import shipped_curve
from labkit.training.pretrained import load_pretrained, names
images, labels = mnist32("test")
assert len(shipped_curve("mnist-unet")[0]) > 5
models = {name: sum(p.numel() for p in load_pretrained(name)[0].parameters()) for name in names()}
print(json.dumps([labkit.__file__, len(images), labels[:5].tolist(), models]))
"""


def pip(*arguments):
    command = [
        sys.executable,
        "-m",
        "pip",
        *map(str, arguments),
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built offline from a copy of the sources, so that no build folder appears in the checkout."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "labkit", source / "labkit", ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", source, "--no-deps", "--no-build-isolation", "--wheel-dir", target)
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package_and_the_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "labkit").rglob("*")
        if path.is_file() and path.suffix in {".py", ".npz", ".csv", ".json", ".safetensors"}
    }
    assert {"labkit/assets/mnist.npz", "labkit/assets/mnist-unet-guidance.csv"} <= wanted
    assert wanted <= held
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in held)


def test_the_installed_wheel_reads_its_data_and_models_far_from_the_checkout(wheel, tmp_path):
    from labkit.training.pretrained import load_pretrained, names

    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip("install", wheel, "--no-deps", "--target", target)
    environment = os.environ | {"PYTHONPATH": str(target)}
    run = subprocess.run(
        [sys.executable, "-P", "-c", USE_IT], cwd=elsewhere, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    file, images, labels, models = json.loads(run.stdout)
    assert Path(file).resolve().is_relative_to(target.resolve())
    assert (images, labels) == (10_000, [7, 2, 1, 0, 4])  # the first digits of the MNIST test set
    assert models == {name: sum(p.numel() for p in load_pretrained(name)[0].parameters()) for name in names()}


def test_the_distribution_is_not_called_labkit():
    assert PROJECT["name"] != "labkit"  # that name belongs to somebody else on PyPI


def test_requirements_are_floors_without_caps():
    for line in [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]:
        assert [clause.operator for clause in Requirement(line).specifier] == [">="], line


def test_the_oldest_pins_are_the_floors():
    lines = (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    pins = {line.split("==")[0]: Version(line.split("==")[1]) for line in lines if line and not line.startswith("#")}
    floors = {}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        (clause,) = requirement.specifier
        floors[requirement.name] = Version(clause.version)
    assert pins == floors


def test_conda_takes_its_requirements_from_pyproject():
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    entries = [line.strip().removeprefix("- ") for line in lines[lines.index("dependencies:") + 1 :]]
    wanted = [entry for entry in entries if entry and not entry.startswith("#")]
    python, *rest = wanted
    assert rest == ["pip", "pip:", '-e ".[lab,test]"']
    assert python.startswith("python=")
    assert Version(python.removeprefix("python=")) >= Version(PROJECT["requires-python"].removeprefix(">="))
    assert {"lab", "test"} <= EXTRAS.keys()
