"""The files that ship with the course, each with a card that says where it comes from and under which licence.

An asset `mnist.npz` has its card beside it in `mnist.npz.json`. Reading checks the sha256 there, so a damaged or
swapped file is refused by name, with a ValueError, as one that is missing or has no card is.
"""

import csv
import glob
import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from labkit.base.inputs import takes
from labkit.base.runtime import machine

MINUTE = 60.0  # seconds: what another machine writes into a shared folder is younger
FOLDER = Path(__file__).parent.parent / "assets"


@dataclass(frozen=True)
class Card:
    """What a shipped file is. `details` is free: for weights, how they were trained and what they scored."""

    title: str
    source: str
    licence: str
    details: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""  # of the file; filled in when the file is written


@takes()
def asset(name: str) -> Path:
    """The path of a shipped file, after comparing it with its card."""
    path = FOLDER / name
    if not card_path(path).is_file():
        known = sorted(p.name.removesuffix(".json") for p in FOLDER.glob("*.json"))
        raise ValueError(f"no asset is called {name!r}; the assets are {', '.join(known)}")
    read_card(path)
    return path


def card_path(path: Path | str) -> Path:
    """Where the card of the file at `path` lies."""
    return Path(f"{path}.json")


def read_card(path: Path | str) -> Card:
    """The card of the file at `path`, after comparing the two."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    if not card_path(path).is_file():
        raise ValueError(f"{path.name} has no card: {card_path(path)} is missing")
    try:
        card = Card(**json.loads(card_path(path).read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:  # of another encoding, no JSON, or with other entries
        raise ValueError(f"{card_path(path)} is no card: {error}") from error
    found, noted = _sha256(path), str(card.sha256)
    if found != noted:
        raise ValueError(
            f"{path.name} is damaged or not the file its card describes: its sha256 begins {found[:12]}, "
            f"the card says {noted[:12] or 'nothing'}. Restore it from git or install the package again"
        )
    return card


def write_card(path: Path | str, card: Card, written: Path | None = None) -> Card:
    """Write the card of the file at `path`, or `written` for that place, with its sha256, and return the card."""
    card = replace(card, sha256=_sha256(written or path))
    with atomic_write(card_path(path)) as temporary:
        temporary.write_text(json.dumps(asdict(card), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return card


def read_weights(path: Path | str) -> tuple[dict[str, Tensor], Card]:
    """A safetensors file and its card: `(state_dict on the CPU, card)`. ValueError if it is no safetensors file."""
    card = read_card(path)
    try:
        return safetensors.torch.load_file(path), card
    except safetensors.SafetensorError as error:
        raise ValueError(f"{Path(path).name} is no safetensors file: {error}") from error


def write_weights(path: Path | str, state_dict: dict[str, Tensor], card: Card) -> Card:
    """Write a state dict as safetensors, then its card, and return the card with the sha256 filled in."""
    plain = {name: value.detach().cpu().contiguous() for name, value in state_dict.items()}
    with atomic_write(path) as temporary:
        safetensors.torch.save_file(plain, temporary)
        return write_card(path, card, temporary)


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on leaving without an error it replaces `path` in one step.

    Close whatever you opened there before leaving: Windows refuses to replace an open file. What processes that were
    killed have left there goes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f".{glob.escape(path.name)}.*.*.tmp"):
        process = old.name.split(".")[-3]
        if process.isdigit() and not _alive(int(process)) and time.time() - old.stat().st_mtime > MINUTE:
            old.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        yield temporary
        temporary.chmod(0o644)  # some writers leave it readable by its owner alone
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    """Whether a process of that number runs; where that cannot be asked, as on Windows, it is taken to."""
    try:
        os.kill(process, 0) if os.name == "posix" else None
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


@takes()
def read_table(name: str) -> tuple[list[dict[str, Any]], Card]:
    """A measured table that ships, `name`.csv: rows `{column: value}`, numbers as int or float, and its card."""
    path = asset(f"{name}.csv")
    with open(path, encoding="utf-8", newline="") as file:
        rows = [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return rows, read_card(path)


def write_table(path: Path | str, rows: list[dict[str, Any]], card: Card) -> Card:
    """Write at least one row, all with the same keys, as CSV with its card; floats keep six significant digits."""
    if not rows or any(row.keys() != rows[0].keys() for row in rows):
        raise ValueError("rows must be at least one dict, and all must have the same keys")
    with atomic_write(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
        return write_card(path, card, temporary)


def provenance(on: torch.device) -> dict[str, str]:
    """Where a figure comes from, for cards: day, machine and git revision ("unknown" outside a checkout, + if changed).

    Call it when the work starts: it is that code which ran.
    """
    describe = ["git", "describe", "--always", "--dirty=+"]
    try:
        revision = subprocess.run(describe, cwd=FOLDER, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = "unknown"
    return {"started": time.strftime("%Y-%m-%d"), "machine": machine(on), "revision": revision}


def _sha256(path: Path | str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
