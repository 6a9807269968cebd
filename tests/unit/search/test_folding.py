"""Texts that differ only in case, accents or spacing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.search.folding import fold


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("Müller", "MULLER"),
        ("Straße", "STRASSE"),
        ("Пётр", "петр"),
        ("  a \t b\n", "A B"),
        ("e\u0301", "é"),
        ("ﬁn", "FIN"),
        ("İ", "i"),
    ],
)
def test_texts_that_look_alike_fold_alike(text: str, other: str) -> None:
    assert fold(text) == fold(other)


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text())
def test_case_does_not_matter(text: str) -> None:
    assert fold(text.casefold()) == fold(text)
