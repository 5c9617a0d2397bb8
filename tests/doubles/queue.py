"""Where the web UIs' generations wait for each other, and what they say of the one that is running."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from doubles.installed import Surroundings

SAMPLERS, SCHEDULERS = ("Euler", "DPM++ 2M"), ("Automatic", "Karras")


@dataclass
class State:
    """shared.state. on_step: called at each sampling step, in the thread that generates.  jobs: all that have begun."""

    on_step: Callable[[], None] = lambda: None
    jobs: list[str] = field(default_factory=list)
    job: str = ""
    interrupted: bool = False
    skipped: bool = False
    stopping_generation: bool = False
    sampling_step: int = 0
    sampling_steps: int = 0

    def begin(self, job: str = "(unknown)") -> None:
        self.job = job
        self.jobs.append(job)
        self.interrupted = self.skipped = self.stopping_generation = False
        self.sampling_step = 0

    def end(self) -> None:
        self.job = ""

    def interrupt(self) -> None:
        self.interrupted = True

    def sample(self, steps: int) -> None:
        """A sampler's steps, of which there are fewer after an interruption."""
        self.sampling_steps = steps
        for step in range(steps):
            self.sampling_step = step
            self.on_step()
            if self.interrupted or self.skipped:
                break


@dataclass
class Tasks:
    """modules.progress: the ids of the tasks that wait, that of the one that runs, and of those that ended."""

    pending: list[str] = field(default_factory=list)
    current: str | None = None
    finished: list[str] = field(default_factory=list)

    def create(self, kind: str) -> str:
        return f"task({kind}-{len(self.finished):07})"

    def start(self, task: str) -> None:
        self.current = task
        self.pending.remove(task)

    def finish(self, task: str) -> None:
        self.current = None if self.current == task else self.current
        self.finished.append(task)


def install(around: Surroundings, shared: Any) -> None:
    """Install the queue, and put the state into modules.shared."""
    tasks = Tasks()
    shared.state, shared.sd_model = State(), None
    around.install(
        call_queue={"queue_lock": threading.Lock()},
        progress={
            "create_task_id": tasks.create,
            "add_task_to_queue": tasks.pending.append,
            "start_task": tasks.start,
            "finish_task": tasks.finish,
            "tasks": tasks,
        },
        sd_samplers={"visible_sampler_names": lambda: list(SAMPLERS)},
        sd_schedulers={"schedulers": [SimpleNamespace(label=label) for label in SCHEDULERS]},
    )
