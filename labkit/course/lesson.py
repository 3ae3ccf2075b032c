"""How a lesson begins and ends: seed, style, device, profile and budget, and the stamp of the run."""

import os
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from labkit.base.inputs import takes, whole
from labkit.base.runtime import device, machine, profile, seed_everything
from labkit.show.figures import use_style


@dataclass(frozen=True)
class Lesson:
    """One run of a lesson, made by `begin`: its profile (fast, cpu or gpu) and the `budget` of that, the `device` where
    it computes, and a seeded CPU `generator`.
    """

    profile: str
    budget: dict[str, Any]
    device: torch.device
    generator: torch.Generator
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def stamp(self) -> str:
        """The run in words: "profile cpu, cpu (x86_64, 2 threads), torch 2.4.0; 120 s in all"."""
        return f"profile {self.profile}, {machine(self.device)}; {self.seconds:.0f} s in all"


@takes(seed=whole(0))
def begin(budgets: dict[str, dict[str, Any]], *, on: torch.device | str | None = None, seed: int = 0) -> Lesson:
    """Seed everything, take the course's style, choose profile and device, and say in words what was chosen and why.

    `budgets` are what the lesson does in each profile, `{"fast": {...}, "cpu": {...}, "gpu": {...}}`; `on` is where it
    computes (default: `labkit.base.device()`): lessons in the plane stay on the CPU. Raises ValueError for an unknown
    profile, and KeyError for one without a budget.
    """
    use_style()
    chosen = profile()
    lesson = Lesson(chosen, budgets[chosen], device() if on is None else torch.device(on), seed_everything(seed))
    reason = "LABKIT_PROFILE says so" if os.environ.get("LABKIT_PROFILE") else "of what torch finds on this machine"
    print(f"profile {chosen!r}, because {reason}; device: {machine(lesson.device)}")
    print(", ".join(f"{name} = {value}" for name, value in lesson.budget.items()))
    return lesson
