"""What people said of analysed files, as a list to evaluate on: labels from the database, files from S3."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from core.db import read
from core.domain import Frozen
from core.errors import NotFound
from core.feedback import LabelledFile, labelled_files
from core.storage import Storage
from evaluation.manifest import Entry, digest_of


class Labelled(Frozen):
    """Files with one label each, and what had to be left out."""

    files: tuple[LabelledFile, ...]
    contradicted: int  #: files that people gave different labels

    @property
    def words(self) -> str:
        """What is here, in a sentence."""
        left_out = f"; {self.contradicted} with contradicting labels left out" if self.contradicted else ""
        return f"{len(self.files)} labelled files that are still stored{left_out}"


def collect(owner: str | None = None) -> Labelled:
    """Every labelled file that is still stored, once, of one owner or of all."""
    with read() as session:
        return once(labelled_files(session, owner))


def once(found: Iterable[LabelledFile]) -> Labelled:
    """The same bytes once; whoever is contradicted says nothing. In the order of the labels."""
    same: dict[str, list[LabelledFile]] = defaultdict(list)
    for one in found:
        same[one.sha256].append(one)
    agreed = [ones[-1] for ones in same.values() if len({one.label for one in ones}) == 1]
    return Labelled(files=tuple(agreed), contradicted=len(same) - len(agreed))


def fetch(labelled: Labelled, storage: Storage, folder: Path) -> tuple[Entry, ...]:
    """The files in `folder`; one that was erased meanwhile, or is not what was stored, is left out.

    They are named by their analysis: what people called them stays in the database. Raises StorageError.
    """
    entries = []
    for one in labelled.files:
        path = folder / one.sha256
        with suppress(NotFound):
            storage.download_file(one.object_key, path)
            if digest_of(path) == one.sha256:
                name = str(one.analysis_id)
                entries.append(Entry(name=name, path=path, label=one.label, sha256=one.sha256))
    return tuple(entries)
