"""Checkpoints: a training in the middle, in one file, from which it goes on as if nothing had happened."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from labkit.base.files import atomic_write


class Checkpoint:
    """All of a training that changes: `parts` {name: part} with `state_dict()` and `load_state_dict(state)` each, as
    modules and optimisers have them, and `settings`, plain values that must be the same for a training to go on.
    """

    def __init__(self, parts: dict[str, Any], settings: dict[str, Any]) -> None:
        self.parts, self.settings = parts, settings

    def save(self, path: Path) -> None:
        """Replace the file at `path`; interrupted, that leaves the old one."""
        states = {name: part.state_dict() for name, part in self.parts.items()}
        write_state(path, {"settings": self.settings, "parts": states})

    def load(self, state: dict, path: Path) -> None:
        """Load what `read_checkpoint` read from `path`: all parts or, with a ValueError that says why, none."""
        if state["settings"] != self.settings:
            raise ValueError(f"{path} is from another training: it has {state['settings']}, this one {self.settings}")
        if not all(weight.isfinite().all() for weight in state["parts"].get("model", {}).values()):
            raise ValueError(f"{path} holds weights that are inf or NaN")
        if missing := self.parts.keys() - state["parts"].keys():
            raise ValueError(f"{path} is from another training: it has no {', '.join(sorted(missing))}")
        before = {name: deepcopy(part.state_dict()) for name, part in self.parts.items()}
        try:
            for name, part in self.parts.items():
                part.load_state_dict(state["parts"][name])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            for known, part in self.parts.items():
                part.load_state_dict(before[known])
            raise ValueError(f"{path} is from another training: its {name} does not fit: {error}") from error


def write_state(path: Path, state: object) -> None:
    """Write what `read_checkpoint` reads: the sha256 of what torch.save makes of a state, 32 bytes, and then that."""
    content = io.BytesIO()
    torch.save(state, content)
    with atomic_write(path) as temporary:
        temporary.write_bytes(hashlib.sha256(content.getbuffer()).digest() + content.getbuffer())


def read_checkpoint(path: Path) -> dict:
    """The content of a checkpoint, on the CPU. Raises ValueError if there is none at `path`."""
    if not path.is_file():
        raise ValueError(f"resume={str(path)!r} is no file; start without resume, or name a checkpoint that fit wrote")
    noted, content = (data := path.read_bytes())[:32], memoryview(data)[32:]
    if hashlib.sha256(content).digest() != noted:
        raise ValueError(f"{path} is damaged, or no checkpoint that this version of fit wrote")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is none of its own
        raise ValueError(f"{path} is no checkpoint that can be read: {error}") from error
    if not isinstance(state, dict) or state.keys() != {"settings", "parts"} or "history" not in state["parts"]:
        raise ValueError(f"{path} is no checkpoint that this version of fit wrote")
    return state


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Keep other trainings away from a checkpoint: ValueError where one that still runs writes to the same `path`.

    The lock is the operating system's, on a file beside it, so that it ends with its owner, however that ends. Where
    there are no such locks, as on Windows and some network folders, nobody is kept away.
    """
    lock = path.with_name(f".{path.name}.lock")
    with open(lock, "w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"checkpoint {str(path)!r} is being written by another training") from error
        except (ImportError, OSError):
            pass
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


class RandomState:
    """Torch's global random numbers on the CPU and on a device, as a part of a checkpoint."""

    def __init__(self, on: torch.device) -> None:
        self.on = on

    def state_dict(self) -> dict:
        cuda = {"cuda": torch.cuda.get_rng_state(self.on)} if self.on.type == "cuda" else {}
        return {"cpu": torch.get_rng_state()} | cuda

    def load_state_dict(self, state: dict) -> None:
        torch.set_rng_state(state["cpu"])
        if "cuda" in state and self.on.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.on)
