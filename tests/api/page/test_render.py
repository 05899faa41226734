from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.page.gallery import MAX_PICTURE_BYTES
from api.page.render import PAGE_POLICY, STYLE, STYLE_HASH, render
from api.page.rows import MAX_ROWS
from core.domain import Reason
from tests.api.page import materials
from tests.api.page.materials import evidence, material
from tests.core.fusion.samples import Cell


def text(page: str) -> str:
    """Its words alone."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_a_deepfake_says_what_it_means_and_what_not() -> None:
    words = text(render(materials.accused()))
    assert "DEEPFAKE Signs of manipulation" in words
    assert "What it does not mean. It is a measurement by models that make mistakes, not a proof." in words
    assert "a score, not a probability: the detectors are not calibrated" in words
    assert "neighbouring intervals that stand out together" in words
    assert "Where the model looked (occlusion grid)" in words
    assert "Lips and voice: correlation 0.41" in words
    assert "7.25 s background" in words
    assert "monotone voice 0.8 semitones" in words


def test_what_becomes_of_it_elsewhere_and_what_lips_say_is_told_and_decides_nothing() -> None:
    found = materials.accused()
    words = text(render(found))
    assert "At least one copy gets another verdict than DEEPFAKE" in words
    assert "encoded again, badly (CRF 35) ▲ INCONCLUSIVE 0.480 to 0.550 -0.420" in words
    assert "both sides quartered not measured: no score left" in words
    assert "whose mouth does not move with it" in words
    assert "Below what real talkers show." in words
    lost = {**found.report, "stability": None, "stability_reason": "worker_lost", "av": {"signals": []}}
    words = text(render(replace(found, report=lost)))
    assert "Not measured: worker lost." in words
    assert "mouth does not move" not in words
    never = {**lost, "stability_reason": None}
    assert "survive being passed on" not in text(render(replace(found, report=never)))


def test_copies_that_say_nothing_or_something_of_an_open_answer_are_not_called_stable() -> None:
    found = materials.accused()
    told = found.report["stability"] | {"flips": False}
    unmeasured = [one | {"verdict": None, "flips": False} for one in told["variants"]]
    nothing = {**found.report, "stability": told | {"variants": unmeasured}}
    words = text(render(replace(found, report=nothing)))
    assert "No copy could be measured" in words
    assert "No copy that could be measured gets another verdict" not in words
    firm = [told["variants"][0] | {"verdict": "DEEPFAKE", "flips": False}]
    undecided = {**found.report, "stability": told | {"verdict": "INCONCLUSIVE", "variants": firm}}
    words = text(render(replace(found, report=undecided)))
    assert "At least one copy gets another verdict than INCONCLUSIVE, which was no firm answer" in words


def test_a_spectrogram_that_could_not_be_read_is_not_called_erased() -> None:
    found = materials.accused()
    section = text(render(replace(found, pictures={}))).partition(" Sound ")[2]
    assert "could not be read" in section
    assert "erased with the file" not in section
    gone = render(replace(found, pictures={}, spectrogram=None, stills={}, erased=True))
    assert "erased with the file" in text(gone).partition(" Sound ")[2]


def test_a_calibrated_detector_says_from_what_and_an_operating_point_whether_it_holds() -> None:
    found = materials.accused()
    made = {
        "kind": "platt",
        "real_files": 40,
        "fake_files": 30,
        "made_at": "2026-01-02T03:04:05Z",
        "digest": "d",
    }
    provenance = found.report["provenance"]
    vit = provenance["detectors"][0] | {"calibrated": True, "calibration": made}
    asked = provenance | {"detectors": [vit], "operating_point": "fpr_1", "honoured": False}
    words = text(render(replace(found, report={**found.report, "provenance": asked})))
    assert "calibration: platt, 40 real and 30 fake files, 2026-01-02 03:04:05 UTC, d" in words
    assert "fpr_1 was asked for, but no error rate holds without calibrated detectors" in words
    held = asked | {"honoured": True, "thresholds": provenance["thresholds"] | {"operating_point": "fpr_1"}}
    words = text(render(replace(found, report={**found.report, "provenance": held})))
    assert "fpr_1: at most 1 of 100 unaltered files is to be accused" in words


def test_inconclusive_is_an_answer_with_its_reasons_and_what_mends_them() -> None:
    words = text(render(materials.unscored()))
    assert "INCONCLUSIVE The evidence does not allow an answer This is an answer" in words
    assert "an inconclusive answer carries no confidence" in words
    assert "Why there is no firmer answer No part of the file could be scored." in words
    assert "Mend it, on the server: deepdefend models pull" in words
    assert "not measured" in words


def test_real_is_no_certificate() -> None:
    words = text(render(materials.calm()))
    assert "REAL No sign of manipulation found" in words
    assert "It is not a certificate" in words
    assert "No picture was suspicious" in words


def test_a_test_detector_is_shouted_about_and_only_then() -> None:
    rows = evidence([0.9] * 4, [0.2] * 4)
    loud, quiet = (render(material(rows, test_only=test)) for test in (True, False))
    assert "this verdict means nothing" in text(loud)
    assert "<title>TEST ONLY" in loud
    assert 'class="tag alarm"' in loud
    assert "means nothing" not in text(quiet)


def test_what_made_it_is_there_to_the_last_digit() -> None:
    words = text(render(materials.accused()))
    for told in (
        materials.SHA,
        "sha256:" + "a" * 64,
        "sha256:" + "b" * 64,
        "not calibrated",
        "bubblewrap",
        str(materials.ID),
        "2026-03-04 05:06:07 UTC",
        "the built-in template",
        "real below 0.5, suspicious from 0.6",
    ):
        assert told in words


def test_the_style_is_known_by_its_hash_and_the_page_says_so_itself() -> None:
    page = render(materials.calm())
    style = re.search(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" == STYLE_HASH
    assert f'content="{PAGE_POLICY}"'.replace("'", "&#39;") in page
    assert "unsafe" not in PAGE_POLICY


def test_references_lead_to_rows_that_are_there() -> None:
    page = render(materials.accused())
    targets = set(re.findall(r'href="#(i\d+)"', page))
    assert {"i2", "i3"} <= targets
    assert targets <= set(re.findall(r'id="(i\d+)"', page))


def test_every_picture_says_what_it_shows() -> None:
    page = render(materials.accused())
    assert re.findall(r"<img(?![^>]*alt=\"[^\"]+\")[^>]*>", page) == []
    plots = re.findall(r"<svg class=\"(?:plot|still)\"[^>]*>", page)
    assert len(plots) >= 6
    assert all('role="img"' in plot and 'aria-label="' in plot for plot in plots)
    assert page.count("<h1") == 1
    assert re.search(r"<html lang=\"en\">", page)
    assert all(f"<{landmark}" in page for landmark in ("header", "main", "footer"))


def test_erased_pictures_leave_a_report() -> None:
    page = render(materials.erased(materials.accused()))
    assert "This picture was erased with the file." in page
    assert "data:image" not in page
    assert "DEEPFAKE" in page


def test_pictures_that_are_none_are_not_shown() -> None:
    found = materials.accused()
    page = render(replace(found, pictures=dict.fromkeys(found.pictures, b"<html>not a picture")))
    assert "data:image" not in page
    assert "it was erased, or never made" in page


def test_a_report_of_an_older_release_is_still_a_page() -> None:
    """Only what the first release had, and less."""
    found = materials.accused()
    for kept in ({"verdict", "detailed_analysis"}, {"verdict", "reasons", "coverage"}, set()):
        report = {name: value for name, value in found.report.items() if name in kept}
        assert "</html>" in render(replace(found, report=report, faces=(), stills={}, spectrogram=None))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["reasons", "signals", "video", "audio", "detectors", "interval", "start"]),
                inner,
                max_size=3,
            )
        ),
    )
)
@hypothesis_settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_no_shape_of_a_report_breaks_it(odd: object) -> None:
    found = materials.calm()
    assert "</html>" in render(replace(found, report=dict.fromkeys(found.report, odd)))


def test_a_long_file_is_a_bounded_page() -> None:
    count = MAX_ROWS + 60
    video: list[Cell] = [0.2 if n % 7 else Reason.NO_FACE for n in range(count)]
    video[-40:] = [0.93] * 40
    found = material(evidence(video, [0.2] * count))
    big = materials.picture(".png", 400, 300) + bytes(1_300_000)
    page = render(replace(found, pictures=dict.fromkeys(["still-959", "still-930", "sound", "face-0"], big)))
    assert len(page) < 12_000_000
    assert page.count('<tr id="i') == MAX_ROWS
    assert f'id="i{count - 1}"' in page, "what is suspicious stays in the table"
    assert "<details>" in page, "it is folded"
    assert "60 more intervals" in page
    assert MAX_PICTURE_BYTES * 4 / 3 < 12_000_000


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    digits = colour * 2 if len(colour) == 3 else colour
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", range(3), ids=["light", "dark", "print"])
def test_its_colours_can_be_read(scheme: int) -> None:
    block = re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z-]+): #([0-9a-f]{3,6});", block))
    texts = [("ink", "paper"), ("ink", "sheet"), ("soft", "paper"), ("soft", "sheet"), ("link", "paper")]
    texts += [
        ("alarm-ink", "alarm"),
        ("fake", "sheet"),
        ("real", "sheet"),
        ("open", "sheet"),
        ("high", "paper"),
    ]
    shapes = [("low", "sheet"), ("middle", "sheet"), ("high", "sheet"), ("mark", "paper")]
    poor = [pair for pair in texts if contrast(*map(colours.__getitem__, pair)) < 4.5]
    poor += [pair for pair in shapes if contrast(*map(colours.__getitem__, pair)) < 3]
    assert poor == []
