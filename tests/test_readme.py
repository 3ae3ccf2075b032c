"""The README's commands and sentences are true of the repository."""

import re
from pathlib import Path

import nbformat
from test_house import ROOMS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def test_the_quick_start_is_two_lines_one_for_the_lab_and_one_for_the_tests():
    lab, tests = [block.strip() for block in blocks("")]
    assert lab == 'python -m pip install -e ".[lab]" && jupyter lab notebooks'
    assert tests == 'python -m pip install -e ".[test]" && pytest'


def test_the_examples_draw_ten_images_judge_them_and_train_on_data_of_ones_own(capsys):
    draw, judge, own = [block for block in blocks("python") if "import" in block]
    names = {}
    exec(draw.replace("linspace(0, 1, 17)", "linspace(0, 1, 3)"), names)
    assert names["x_1"].shape == (10, 1, 32, 32) and names["x_1"].isfinite().all()
    exec(judge.replace("500", "20").replace("w=3.0", "w=3.0, steps=1"), names)
    exec(own.replace("steps=1500", "steps=20, progress=False").replace("500", "20"), names)
    assert names["x"].shape == (20, 1, 8, 8)
    assert len(re.findall(r"^accuracy .* n=20$", capsys.readouterr().out, flags=re.MULTILINE)) == 3


def test_every_file_it_links_to_exists():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links and all((ROOT / link).exists() for link in links)


def test_every_notebook_is_listed():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"notebooks/{path.name}" in README


def test_the_crosswalk_to_the_lectures_leads_to_sections_and_their_first_cells():
    text = (ROOT / "notebooks" / "lectures.md").read_text(encoding="utf-8")
    places = re.findall(r"\[(\d\d) (?:§(\d+)|“([^”]+)”)\]\((\S+\.ipynb)\) \((\d+)\)", text)
    assert len(places) > 60 and len(places) == text.count(".ipynb)")
    for lesson, section, title, file, cell in places:
        assert file.startswith(lesson)
        source = nbformat.read(ROOT / "notebooks" / file, 4).cells[int(cell) - 1].source
        wanted = rf"^##+ {section} · " if section else rf"^##+ {re.escape(title)}$"
        assert re.search(wanted, source, flags=re.MULTILINE), f"{lesson}: cell {cell} does not begin {section or title}"


def test_its_map_is_the_folder_tree_in_the_order_of_the_house():
    (tree,) = blocks("text")
    shown = re.findall(r"^  (\w+)/ ", tree, flags=re.MULTILINE)
    folders = {
        path.name
        for path in (ROOT / "labkit").iterdir()
        if path.is_dir() and any(f.is_file() for f in path.iterdir()) and path.name != "__pycache__"
    }
    assert shown == [*ROOMS, "assets"] and set(shown) == folders
