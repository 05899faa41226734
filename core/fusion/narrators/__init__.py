"""Who writes `detailed_analysis`, after the verdict exists: a narrator explains and decides nothing."""

from __future__ import annotations

from core.fusion.narrators.narrate import narrate
from core.fusion.narrators.narration import Narration

__all__ = ["Narration", "narrate"]
