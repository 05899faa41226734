"""The tree of errors and the problem documents they become."""

from __future__ import annotations

import pytest

from core import errors


def tree(root: type[errors.DeepDefendError]) -> list[type[errors.DeepDefendError]]:
    """The classes of core.errors; other rooms may derive their own, which other tests import."""
    children = [child for child in root.__subclasses__() if child.__module__ == errors.__name__]
    return [root, *(leaf for child in children for leaf in tree(child))]


@pytest.mark.parametrize("kind", tree(errors.DeepDefendError))
def test_the_docstring_is_the_default_message(kind: type[errors.DeepDefendError]) -> None:
    problem = kind().problem()
    assert problem["detail"] == (kind.__doc__ or "").strip()
    assert problem["status"] == kind.status_code
    assert problem["type"].endswith(f"/{problem['code']}")


def test_codes_are_stable_words() -> None:
    codes = [kind.code for kind in tree(errors.DeepDefendError)]
    assert all(code.replace("_", "").isalpha() and code.islower() for code in codes)
    assert len(set(codes)) == len(codes)


def test_an_error_carries_what_helps() -> None:
    error = errors.DetectorUnavailable("no weights", mend="deepdefend models pull")
    assert error.problem()["mend"] == "deepdefend models pull"
    assert str(error) == "no weights"
    assert errors.MediaError("cut", code="too_long").problem()["title"] == "Too long"
