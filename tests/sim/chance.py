"""Everything that is left to chance, from one seed: trio's scheduler, ids, jitter.

What iterates a set of texts depends on the hash seed of the process: `repeatable` says whether that
is fixed, and `fixed` is the environment for a process in which it is.
"""

from __future__ import annotations

import os
import random
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import Random
from types import ModuleType
from typing import Any

import trio

PREFIXES = ("dpp.", "tests.")  # whose modules make ids by a name of their own
SCHEDULER: Any = getattr(getattr(trio, "_core", None), "_run", None)


def repeatable() -> bool:
    """Say whether texts hash alike in every process like this one."""
    return sys.flags.hash_randomization == 0


def fixed() -> Mapping[str, str]:
    """Return an environment in which texts hash alike."""
    return {**os.environ, "PYTHONHASHSEED": "0"}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let chance be this seed's inside the block."""
    for name in ("_r", "_ALLOW_DETERMINISTIC_SCHEDULING"):
        assert hasattr(SCHEDULER, name), f"this trio has no _core._run.{name} to seed: pin another"
    assert repeatable(), "texts hash differently in each process: set PYTHONHASHSEED=0"
    ids = Random(f"ids of {seed}")
    before = random.getstate()
    makers = list(id_makers())
    scheduler = SCHEDULER._r.getstate()
    random.seed(f"jitter of {seed}")
    SCHEDULER._r.seed(f"order of {seed}")
    SCHEDULER._ALLOW_DETERMINISTIC_SCHEDULING = True
    for module in makers:
        module.uuid4 = lambda: uuid.UUID(int=ids.getrandbits(128), version=4)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in makers:
            module.uuid4 = uuid.uuid4  # type: ignore[attr-defined]
        SCHEDULER._ALLOW_DETERMINISTIC_SCHEDULING = False
        SCHEDULER._r.setstate(scheduler)
        random.setstate(before)


def id_makers() -> Iterator[ModuleType]:
    """Yield the modules of product and tests that make random ids."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith(PREFIXES) and getattr(module, "uuid4", None) is uuid.uuid4:
            yield module
