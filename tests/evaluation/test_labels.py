"""Labels of people as a list of files: each once, and only what is still what was stored."""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import UUID, uuid4

from core import analyses, db, feedback
from core.domain import Label, Options
from core.feedback import LabelledFile
from core.keys import Caller
from core.storage import storage
from evaluation import labels
from tests.core.conftest import owner  # noqa: F401 - a fixture
from tests.core.eraser import ended, put


def one(sha256: str, label: str) -> LabelledFile:
    return LabelledFile(
        analysis_id=uuid4(), owner="o", label=Label(label), sha256=sha256, object_key=f"media/{sha256}"
    )


def test_the_same_bytes_count_once_and_contradictions_not_at_all() -> None:
    found = [one("a", "real"), one("b", "fake"), one("a", "real"), one("b", "real"), one("c", "fake")]
    kept = labels.once(found)
    assert [(file.sha256, file.label) for file in kept.files] == [("a", "real"), ("c", "fake")]
    assert kept.contradicted == 1
    assert kept.words == "2 labelled files that are still stored; 1 with contradicting labels left out"


def submitted(caller: Caller, content: bytes) -> UUID:
    """An analysis of these bytes under their true digest."""
    sha256 = hashlib.sha256(content).hexdigest()
    file = analyses.StoredUpload(
        sha256=sha256, size_bytes=len(content), object_key=put(f"media/{sha256}", content)
    )
    with db.transaction() as session:
        return analyses.submit(session, caller=caller, source=file, options=Options()).analysis.id


def test_labelled_files_come_from_the_storage(owner: Caller, tmp_path: Path) -> None:  # noqa: F811
    good, changed, gone = (ended(submitted(owner, content)) for content in (b"good", b"changed", b"gone"))
    with db.transaction() as session:
        for identity in (good, changed, gone):
            feedback.give(session, owner, identity, label=Label.FAKE)
    found = labels.collect()
    assert len(found.files) == 3
    keys = {file.analysis_id: file.object_key for file in found.files}
    storage().delete(keys[gone])
    upload = storage().open_upload(keys[changed])
    upload.write(b"other bytes under the same key")
    upload.complete()
    (entry,) = labels.fetch(found, storage(), tmp_path)
    assert (entry.name, entry.label, entry.group) == (str(good), Label.FAKE, None)
    assert entry.path.is_file()
    assert labels.collect("mallory").files == ()
