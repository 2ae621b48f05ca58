"""What load and bot note while they run, in files: records of one kind after the other, one file a kind.

A run of ten minutes with 600 calls notes a gigabyte. It goes to the disk's cache as it comes, and whoever reads it
afterwards maps it.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_BUFFER_BYTES = 1 << 18


class Notes:
    """Files that are open while something is to be noted.

    :param kinds: the kinds of records there are.
    """

    def __init__(self, *kinds: str) -> None:
        self._kinds = kinds
        self._files: dict[str, IO[bytes]] = {}

    @property
    def are_open(self) -> bool:
        """Something is to be noted."""
        return bool(self._files)

    def open(self, path: str) -> None:
        """Note from now on, in PATH.KIND."""
        self.close()
        self._files = {kind: open(f"{path}.{kind}", "wb", _BUFFER_BYTES) for kind in self._kinds}  # noqa: SIM115

    def add(self, kind: str, records: bytes) -> None:
        """One record or several; forgotten when nothing is to be noted."""
        if self._files:
            self._files[kind].write(records)

    def close(self) -> None:
        """Note no more; the files are whole."""
        for file in self._files.values():
            file.close()
        self._files = {}


def read(path: str | Path, kind: str, dtype: npt.DTypeLike, width: int = 0) -> npt.NDArray[Any]:
    """What was noted, mapped; rows of so many items where a width is given."""
    name = f"{path}.{kind}"
    records: npt.NDArray[Any] = np.empty(0, dtype)
    if Path(name).stat().st_size:
        records = np.memmap(name, dtype, "r")
    return records.reshape(-1, width) if width else records
