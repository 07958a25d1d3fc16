"""Python imports this where the folder is on PYTHONPATH: the process then takes its machine for a quiet one.

It is to processes what `pretend_quiet` of conftest.py is to the process of the tests. On a machine where other tests
run, the baseline of a study would otherwise be trained up to eight times, until three of its runs have nearly equal
speed.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


def quieten(module: ModuleType) -> None:
    if module.__name__.endswith(".machine_speed"):
        module.can_measure = lambda: False  # type: ignore[attr-defined]
        return
    module.busiest = lambda *_: ()  # type: ignore[attr-defined]
    module.stolen_seconds = lambda: 0.0  # type: ignore[attr-defined]
    module.measure_load.__defaults__ = (0.01,)


class Quiet:
    """Finds the two modules that measure the machine, and changes them once they are loaded."""

    names = ("autoresearch_kernel.system.machine_speed", "autoresearch_kernel.system.speed")

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self.names:
            return None
        spec = PathFinder.find_spec(name, path)
        assert spec is not None and spec.loader is not None
        load = spec.loader.exec_module

        def load_and_quieten(module: ModuleType) -> None:
            load(module)
            quieten(module)

        spec.loader.exec_module = load_and_quieten  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Quiet())
