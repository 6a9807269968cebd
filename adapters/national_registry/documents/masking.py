"""Error texts without the people in them: the registry quotes names, SNILS and birth dates.

It leaves out too much rather than too little: a code and an element path say what is wrong.
"""

import re

_MASK = "…"
_LONGEST = 300

_QUOTED = re.compile(r"\[[^\]]*\]|«[^»]*»|\"[^\"]*\"|'[^']*'|“[^”]*”")
_NUMBER = re.compile(r"\d(?:[\d\-. :T/+]*\d)?")
# A capital, or all capitals: names are written so, and so are codes, which are kept.
_NAME = re.compile(r"\b(?:[А-ЯЁ][А-Яа-яЁё\-]*|[A-Z][a-z\-]+(?:[A-Z][a-z]+)*)\b")
# Words of the registry's own that begin a sentence or are written in capitals.
_PLAIN = frozenset(
    {
        "Указанное",
        "Указанная",
        "Указанный",
        "Документ",
        "Ошибка",
        "Значение",
        "Элемент",
        "Переданная",
        "Переданные",
        "Пациент",
        "Сотрудник",
        "Должность",
        "Организация",
        "Сертификат",
        "Подпись",
        "Файл",
        "Дата",
        "Не",
        "Нет",
        "Для",
        "СНИЛС",
        "ЭМД",
        "СЭМД",
        "МИС",
        "РМИС",
        "ФРМР",
        "ФРМО",
        "ГИП",
        "ОГРН",
        "ФИО",
        "ЭП",
        "НСИ",
        "РЭМД",
        "Доступ",
        "Достигнут",
        "Element",
        "Error",
        "Schematron",
        "Invalid",
        "Value",
        "Patient",
        "Document",
        "The",
        "No",
        "Not",
        "Signature",
        "Certificate",
        "File",
    }
)


def masked(text: str) -> str:
    """`text` for a log or a ledger: no quotation, no number over 3 digits, no name."""
    text = " ".join(text.split())
    text = _QUOTED.sub(_MASK, text)
    text = _NUMBER.sub(lambda m: m[0] if len(m[0]) <= 3 and m[0].isdigit() else _MASK, text)
    text = _NAME.sub(lambda m: m[0] if m[0] in _PLAIN else _MASK, text)
    return re.sub(rf"{_MASK}(?:[\s,;:.\-]*{_MASK})+", _MASK, text)[:_LONGEST]
