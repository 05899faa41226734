"""The program inside the sandbox that makes a variant: `python -m workers.media.variant_child ORDER`.

It writes `variant.mp4` and `kept.json`. It ends as `workers.media.child` does when something is wrong.
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
from workers.media.child import OUT_OF_MEMORY, refuse
from workers.media.cutting import Order, cut

VARIANT: Final = "variant.mp4"
KEPT: Final = "kept.json"


def main(argument: str, source: str) -> int:
    """Write the variant into the current folder; the exit status."""
    av.logging.set_level(None)  # FFmpeg prints what the file makes it print
    cv2.setNumThreads(1)
    try:
        kept = cut(source, Path.cwd() / VARIANT, Order.from_dict(json.loads(argument)))
    except MediaError as error:
        return refuse(error.code, error.detail)
    except MemoryError:
        return refuse(OUT_OF_MEMORY, "")
    Path(KEPT).write_text(json.dumps(kept), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], os.environ["DEEPDEFEND_INPUT"]))
