"""The program inside the sandbox: `python -m workers.media.child JOB`, in the private folder.

It writes `manifest.json` and the files it names. Anything wrong with the file ends it with status 3
and one JSON line, `{"code": ..., "detail": ...}`. It imports only what decoding needs: no torch.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

import av
import cv2

from core.errors import MediaError
from workers.media.decode import decode
from workers.media.job import Job

MANIFEST: Final = "manifest.json"
#: Exit status that says: the last line of the output is a failure in JSON.
REFUSED: Final = 3
OUT_OF_MEMORY: Final = "decoder_out_of_memory"


def main(argument: str, source: str) -> int:
    """Decode into the current folder; the exit status."""
    av.logging.set_level(None)  # FFmpeg prints what the file makes it print
    cv2.setNumThreads(1)  # its pictures are small; the frames themselves go to our own threads
    try:
        manifest = decode(source, Path.cwd(), Job.from_json(argument))
    except MediaError as error:
        return refuse(error.code, error.detail)
    except MemoryError:
        return refuse(OUT_OF_MEMORY, "")
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            return refuse(OUT_OF_MEMORY, "")
        raise
    Path(MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")
    return 0


def refuse(code: str, detail: str) -> int:
    """Say why, for the parent."""
    sys.stdout.write("\n" + json.dumps({"code": code, "detail": detail}) + "\n")
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], os.environ["DEEPDEFEND_INPUT"]))
