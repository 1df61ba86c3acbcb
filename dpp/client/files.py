"""The file of a download: it has its name only once all of it is there and verified."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from attrs import define, field

from dpp.client.steps import Forget, Keep


@define(eq=False)
class Download:
    """A file in the making, beside where it will be."""

    path: Path
    _file: BinaryIO = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._file = self._beside.open("wb")

    @property
    def _beside(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    def do(self, step: Keep | Forget) -> None:
        """Add to it, or begin again."""
        match step:
            case Keep(piece):
                self._file.write(piece)
            case Forget():
                self._file.seek(0)
                self._file.truncate()

    def finish(self) -> None:
        """Give it its name."""
        self._file.close()
        os.replace(self._beside, self.path)  # noqa: PTH105 - it says that it replaces

    def drop(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._beside.unlink(missing_ok=True)
