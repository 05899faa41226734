"""The page as one string: no script, no address but fragments and data:, one style known by its hash."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from api.page import figures
from api.page.delivery import lips, mismatches, stability
from api.page.gallery import MAX_FACES_SHOWN, address, key_frames, shown_faces
from api.page.lanes import HEAD, lanes, ticks, used
from api.page.making import detectors, rule, the_file
from api.page.material import Material
from api.page.prose import paragraphs
from api.page.rows import OPEN_ROWS, starts, table
from api.page.sound import sound
from api.page.words import NAMES, meaning, standing, told
from core.domain import Modality
from core.reading import at, number, word

FOLDER: Final = Path(__file__).parent / "templates"
STYLE: Final = (FOLDER / "report.css").read_text()
#: What a browser compares an inline style with (CSP level 3, section 6.7.3.3).
STYLE_HASH: Final = f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
#: Also in the page itself, for who opens it from a folder.
PAGE_POLICY: Final = (
    f"default-src 'none'; style-src {STYLE_HASH}; img-src data:; base-uri 'none'; form-action 'none'"
)
#: Changes whenever the page of an unchanged report would.
EDITION: Final = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(FOLDER.iterdir()) + sorted(FOLDER.parent.glob("*.py")))
).hexdigest()[:12]


def render(material: Material) -> str:
    """The page. Everything foreign is escaped; what a report of an older release lacks is left out."""
    return _templates().get_template("report.html").render(**_view(material))


@lru_cache(maxsize=1)
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        name: getattr(figures, name) for name in ("score", "measured", "percent", "plain", "shown", "counted")
    }
    found.globals |= {"policy": PAGE_POLICY, "style": Markup(STYLE), "head": HEAD}  # noqa: S704 - our own file
    return found


def _harmless(value: object) -> object:
    """Every text on its way out; markup has been looked after where it was made."""
    return figures.harmless(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _view(material: Material) -> dict[str, Any]:
    report = material.report
    rows, drawn = table(material), lanes(material)
    text = word(report.get("detailed_analysis")) or ""
    return {
        "title": figures.shown(material.filename or material.source or "A file without a name"),
        "material": material,
        "meaning": meaning(report.get("verdict")),
        "confidence": number(report.get("confidence")),
        "calibrated": at(report, "provenance", "calibrated") is True,
        "test_only": report.get("test_only") is True or at(report, "provenance", "test_only") is True,
        "reached": figures.moment(report.get("timestamp")),
        "reasons": told(report),
        "sides": [_side(material, modality) for modality in Modality],
        "lanes": drawn,
        "used": used(drawn),
        "ticks": ticks(material),
        "frames": key_frames(material),
        "sound": sound(material),
        "stability": stability(material),
        "lips": lips(material),
        "mismatches": mismatches(material),
        "paragraphs": paragraphs(text, starts(rows)),
        "faces": [
            (face, address(material, face.thumbnail))
            for face in sorted(shown_faces(material), key=lambda face: face.id)
        ],
        "more_faces": max(0, len(material.faces) - MAX_FACES_SHOWN),
        "rows": rows,
        "rows_open": len(rows) <= OPEN_ROWS,
        "more_rows": len(material.intervals) - len(rows),
        "file": the_file(material),
        "detectors": detectors(material),
        "rule": rule(material),
    }


def _side(material: Material, modality: Modality) -> dict[str, Any]:
    """One modality in figures."""
    coverage = at(material.report, "coverage", modality.value)
    score = number(at(material.report, "overall_scores", f"overall_{modality.value}_score"))
    part = at(coverage, "standing")
    return {
        "name": NAMES[modality].capitalize(),
        "what": "face time" if modality is Modality.VIDEO else "speech",
        "score": score,
        "share": number(at(coverage, "share")),
        "scored": number(at(coverage, "scored_seconds")),
        "scorable": number(at(coverage, "scorable_seconds")),
        "suspicious": int(number(at(coverage, "suspicious_intervals")) or 0),
        "standing": standing(part) if score is not None or part == "absent" else "",
    }
