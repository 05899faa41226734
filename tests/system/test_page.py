"""The first page in a real browser: a file goes in, its report comes out; and the report on its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.browser import Page, chromium
from tests.system.conftest import RunningStack
from tests.system.media import FACE_AND_VOICE

pytestmark = pytest.mark.system

INSIDE = "document.getElementById('report').contentDocument"
#: A narrow phone.
PHONE = 360


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all of it; it begins without a key."""
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        opened.see(PHONE)
        yield opened


def shown(page: Page, name: str) -> None:
    """Wait until a section of the page is there."""
    page.until(f"!document.getElementById('{name}').hidden")


def use_key(page: Page, key: str) -> None:
    """Paste it, as a person does, and press Enter."""
    page.run("document.getElementById('key').focus()")
    page.call("Input.insertText", text=key)
    page.press("Enter", 13, "\r")


def test_a_key_that_is_wrong_is_said_in_words_and_forgotten(stack: RunningStack, page: Page) -> None:
    page.open(f"{stack.api_url}/")
    assert page.overflow() <= 0
    use_key(page, "dd_wrong")
    page.choose("#file", FACE_AND_VOICE)
    shown(page, "problem")
    said = page.run("document.getElementById('problem').innerText")
    assert "A valid API key is needed" in said
    assert "unauthorized" in said
    assert page.run("sessionStorage.length") == 0
    assert page.run("document.activeElement.id") == "problem", "a screen reader is taken to it"


def test_a_file_goes_in_and_its_report_comes_out(stack: RunningStack, page: Page, tmp_path: Path) -> None:
    page.open(f"{stack.api_url}/")
    page.choose("#file", FACE_AND_VOICE)
    shown(page, "problem")
    assert "API key is missing" in page.run("document.getElementById('problem').innerText")
    use_key(page, stack.api_key)  # the file has waited for it
    page.until("document.querySelectorAll('#stages li').length > 2")
    page.until(f"{INSIDE}?.getElementById('verdict') && !document.getElementById('result').hidden")
    words = page.run(f"{INSIDE}.body.innerText")
    assert "INCONCLUSIVE" in words
    assert "deepdefend models pull" in words
    assert page.run(f"[...{INSIDE}.images].every((image) => image.naturalWidth > 0)")
    assert page.run(f"{INSIDE}.querySelector('.still') !== null")
    page.until(f"document.getElementById('report').clientHeight >= {INSIDE}.documentElement.offsetHeight")
    assert page.overflow() <= 0
    assert page.run(f"{INSIDE}.documentElement.scrollWidth") <= PHONE
    asked = [address for address in page.requests() if not address.startswith(("data:", "blob:"))]
    assert {urlsplit(address).netloc for address in asked} == {urlsplit(stack.api_url).netloc}
    assert not [address for address in [*asked, page.run("location.href")] if stack.api_key in address]
    assert page.complaints() == []

    identity = page.run("location.hash").removeprefix("#")
    report_alone(page, stack, identity, tmp_path)


def report_alone(page: Page, stack: RunningStack, identity: str, folder: Path) -> None:
    """Saved, and opened from the folder: it asks nobody for anything."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    answer = httpx2.get(f"{stack.api_url}/v1/analyses/{identity}/report.html", headers=headers)
    saved = folder / "report.html"
    saved.write_bytes(answer.content)
    for dark in (False, True):
        page.see(PHONE, dark=dark)
        page.open(saved.as_uri())
        assert [address for address in page.requests() if not address.startswith("data:")] == [saved.as_uri()]
        assert page.overflow() <= 0
        assert page.complaints() == []
    assert len(page.call("Page.printToPDF", printBackground=True)["data"]) > 10_000


def test_a_file_that_is_none_ends_in_words(stack: RunningStack, page: Page) -> None:
    """Dropped, by a person who holds the key already."""
    page.open(f"{stack.api_url}/")
    if not page.run("document.getElementById('key-form').hidden"):
        use_key(page, stack.api_key)
    page.run("""
        const carried = new DataTransfer();
        carried.items.add(new File(["not a film"], "note.mp4"));
        document.body.dispatchEvent(
            new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
    """)
    shown(page, "problem")
    said = page.run("document.getElementById('problem').innerText")
    assert "No report is possible" not in said, "the problem's own title says more"
    assert "The file is no video or sound format we take." in said
    assert page.complaints() == []


def test_options_are_sent_and_a_lost_connection_is_waited_out(stack: RunningStack, page: Page) -> None:
    page.open(f"{stack.api_url}/")
    if not page.run("document.getElementById('key-form').hidden"):
        use_key(page, stack.api_key)
    page.run("document.querySelector('.wishes').open = true")
    assert page.overflow() <= 0
    page.run("document.getElementById('point').value = 'fpr_1'")
    page.run("document.getElementById('stability').click()")
    page.choose("#file", FACE_AND_VOICE)
    page.until("location.hash.length > 30")
    identity = page.run("location.hash").removeprefix("#")
    connect(page, offline=True)
    page.until("document.getElementById('lost').textContent.startsWith('No answer')")
    assert page.run("document.getElementById('work').hidden") is False, "the work is not given up"
    connect(page, offline=False)
    page.until(f"{INSIDE}?.getElementById('verdict') && !document.getElementById('result').hidden")
    assert page.run("document.getElementById('lost').textContent") == ""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    options = httpx2.get(f"{stack.api_url}/v1/analyses/{identity}", headers=headers).json()["options"]
    assert (options["operating_point"], options["stability"]) == ("fpr_1", True)


#: The first call of the API that the page makes gets this answer.
CUT = "new Response(new ReadableStream({ start: (line) => line.error(new TypeError('cut')) }))"
REVOKED = 'new Response(\'{"title": "Revoked"}\', { status: 401 })'


@pytest.mark.parametrize("answer", [CUT, REVOKED], ids=["cut", "revoked"])
def test_an_address_with_an_analysis_leads_to_its_report(
    stack: RunningStack, page: Page, answer: str
) -> None:
    """Also when the line breaks in the middle of an answer, and when the key has to be given again."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with FACE_AND_VOICE.open("rb") as file:
        sent = httpx2.post(f"{stack.api_url}/v1/analyses", headers=headers, files={"file": file})
    identity = f"#{sent.json()['id']}"
    page.open(f"{stack.api_url}/")
    page.run(f"sessionStorage.setItem('deepdefend-key', '{stack.api_key}')")
    script = f"""
        const real = window.fetch;
        let first = true;
        window.fetch = (path, ...rest) => {{
            const now = first && path.startsWith("/v1/");
            first = first && !now;
            return now ? Promise.resolve({answer}) : real(path, ...rest);
        }};
    """
    added = page.call("Page.addScriptToEvaluateOnNewDocument", source=script)["identifier"]
    page.open("about:blank")
    page.open(f"{stack.api_url}/{identity}")
    if answer == REVOKED:
        shown(page, "problem")
        assert page.run("document.getElementById('problem-title').textContent") == "Revoked"
        use_key(page, stack.api_key)
    page.until(f"{INSIDE}?.getElementById('verdict') && !document.getElementById('result').hidden")
    assert page.run("location.hash") == identity
    page.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added)


def connect(page: Page, *, offline: bool) -> None:
    """Pull the browser's cable, or put it back."""
    page.call(
        "Network.emulateNetworkConditions",
        offline=offline,
        latency=0,
        downloadThroughput=-1,
        uploadThroughput=-1,
    )
