"""Writes crops to `crops-{k}.npy` as they come; whole intervals, about 256 rows a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from core.evidence import CROP_SIDE, CropShard
from workers.media.picture import Picture

#: One unit of video work: eight batches of 32, 50 MB. An interval with more has a file of its own.
MAX_ROWS: Final = 256


class ShardWriter:
    """One open file at a time; nothing of what was written is kept in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._rows = 0
        self._intervals: list[int] = []
        self.shards: list[CropShard] = []

    def add(self, crop: Picture, *, interval: int, expected: int) -> tuple[int, int]:
        """Write one 256 x 256 x 3 crop; its shard and row. Intervals must come in order.

        `expected` is how many crops the interval may have at most: if they might not fit, the interval
        begins the next file.
        """
        if not self._intervals or self._intervals[-1] != interval:
            if self._rows + expected > MAX_ROWS:
                self.close()
            self._intervals.append(interval)
        if self._file is None:
            self._file = (self._folder / f"crops-{len(self.shards)}.npy").open("wb")
            self._header(self._file)
        self._file.write(crop.tobytes())
        self._rows += 1
        return len(self.shards), self._rows - 1

    def close(self) -> None:
        """Finish the open file, if any, and note it; the next interval begins another."""
        if self._file is None:
            return
        self._file.seek(0)
        self._header(self._file)
        self._file.close()
        number = len(self.shards)
        self.shards.append(
            CropShard(
                shard=number,
                file=f"crops-{number}.npy",
                rows=self._rows,
                intervals=tuple(self._intervals),
            )
        )
        self._file, self._rows, self._intervals = None, 0, []

    def _header(self, file: BinaryIO) -> None:
        """The .npy header for the rows so far; NumPy pads it so that the count may grow in place."""
        header: dict[str, Any] = {
            "descr": "|u1",
            "fortran_order": False,
            "shape": (self._rows, CROP_SIDE, CROP_SIDE, 3),
        }
        np.lib.format.write_array_header_1_0(file, header)
