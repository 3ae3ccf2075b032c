"""Where a figure comes from: code, machine and day, for the cards."""

import subprocess
import time

import torch

from labkit.base.files import FOLDER
from labkit.base.runtime import machine


def provenance(on: torch.device) -> dict[str, str]:
    """Day, machine and git revision. Call it when the work starts: it is that code which ran."""
    return {"started": time.strftime("%Y-%m-%d"), "machine": machine(on), "revision": revision()}


def revision() -> str:
    """The git revision of the code that runs, with a + where it has changes; "unknown" outside a checkout."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=FOLDER, capture_output=True, text=True, check=True
        )
        return said.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
