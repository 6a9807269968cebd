"""Folding: texts that differ only in case, accents or spacing become one."""

import unicodedata


def fold(text: str) -> str:
    """`text` in lower case, without combining marks, with single spaces and trimmed.

    Folding twice changes nothing. Cyrillic folds like Latin: a letter with two dots or a
    breve is found without.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    kept = "".join(c for c in decomposed if not unicodedata.combining(c))
    return " ".join(unicodedata.normalize("NFKD", kept.casefold()).split())
