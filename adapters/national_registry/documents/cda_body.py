"""The sections of a document: for people as tables, for machines as entries."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from adapters.national_registry.documents.content import Content, Kind
from adapters.national_registry.documents.summary import Row
from adapters.national_registry.documents.xml_tree import Element, add

ICD_10 = "1.2.643.5.1.13.13.11.1005"
LOINC = "2.16.840.1.113883.6.1"

_MOST_PLACES = 4
_SYSTEMS = {"http://loinc.org": LOINC}


def add_body(root: Element, content: Content) -> None:
    body = add(add(root, "component"), "structuredBody")
    _diagnoses(body, content)
    if content.kind is Kind.REFERRAL:
        _assignments(body, content)
        _limits(body, content)
    else:
        _results(body, content)
        _adherence(body, content)
    _devices(body, content)


def _diagnoses(body: Element, content: Content) -> None:
    lines = [[d.code, d.text] for d in content.diagnoses]
    section = _section(body, "DGN", "Диагноз", ("Код МКБ-10", "Диагноз"), lines)
    for diagnosis in content.diagnoses:
        if diagnosis.code:
            observation = _entry(section)
            add(observation, "code", {"code": "DGN"})
            add(
                observation,
                "value",
                {
                    "xsi:type": "CD",
                    "code": diagnosis.code,
                    "codeSystem": ICD_10,
                    "displayName": diagnosis.text,
                },
            )


def _assignments(body: Element, content: Content) -> None:
    lines = [[a.what, a.how_often] for a in content.activities]
    _section(body, "PLANNED", "Назначенные измерения", ("Измерение", "Как часто"), lines)


def _limits(body: Element, content: Content) -> None:
    lines = [[each.what, each.limits] for each in content.limits]
    _section(body, "LIMITS", "Индивидуальные пределы", ("Показатель", "Пределы"), lines)


def _results(body: Element, content: Content) -> None:
    head = (
        *("Показатель", "Единица", "Измерений", "Дней с измерениями"),
        *("Среднее", "Наименьшее", "Наибольшее", "Пределы", "В пределах"),
    )
    lines = [
        [
            *(row.display, row.unit, str(row.measured), str(row.days)),
            *(_number(row.mean), _number(row.lowest), _number(row.highest)),
            _range(row.low, row.high),
            _share(row),
        ]
        for row in content.rows
    ]
    section = _section(body, "RES", "Результаты дистанционного наблюдения", head, lines)
    for row in content.rows:
        observation = _entry(section)
        coded = {"code": row.code.code, "displayName": row.display}
        if row.code.system in _SYSTEMS:
            coded["codeSystem"] = _SYSTEMS[row.code.system]
        add(observation, "code", coded)
        mean = {"xsi:type": "PQ", "value": _number(row.mean), "unit": row.unit}
        add(observation, "value", mean)
        if row.low is not None or row.high is not None:
            holder = add(add(observation, "referenceRange"), "observationRange")
            bounds = add(holder, "value", {"xsi:type": "IVL_PQ"})
            for tag, value in (("low", row.low), ("high", row.high)):
                if value is not None:
                    add(bounds, tag, {"value": _number(value), "unit": row.unit})


def _adherence(body: Element, content: Content) -> None:
    head = ("Измерение", "Назначено", "Выполнено", "Доля")
    lines = [
        [a.display, str(a.planned), str(a.done), _percent(a.done, a.planned)]
        for a in content.adherence
    ]
    _section(body, "ADHERENCE", "Соблюдение назначений", head, lines)


def _devices(body: Element, content: Content) -> None:
    head = ("Прибор", "Модель", "Производитель", "Номер", "Примечание")
    lines = [
        [
            *(d.name, d.model, d.manufacturer, d.number),
            "не является медицинским изделием" if d.is_auxiliary else "",
        ]
        for d in content.devices
    ]
    _section(body, "DEVICES", "Приборы", head, lines)


def _section(
    body: Element, code: str, title: str, head: Sequence[str], lines: Iterable[Sequence[str]]
) -> Element:
    section = add(add(body, "component"), "section")
    add(section, "code", {"code": code})
    add(section, "title", text=title)
    text = add(section, "text")
    rows = list(lines)
    if not rows:
        add(text, "paragraph", text="Нет данных")
        return section
    table = add(text, "table")
    top = add(add(table, "thead"), "tr")
    for cell in head:
        add(top, "th", text=cell)
    bottom = add(table, "tbody")
    for row in rows:
        line = add(bottom, "tr")
        for cell in row:
            add(line, "td", text=cell)
    return section


def _entry(section: Element) -> Element:
    return add(add(section, "entry"), "observation", {"classCode": "OBS", "moodCode": "EVN"})


def _number(value: Decimal) -> str:
    """As it was measured or set; what a conversion between units made of it, to two digits."""
    is_long = int(value.as_tuple().exponent) < -_MOST_PLACES
    return format(round(value, 2) if is_long else value, "f")


def _range(low: Decimal | None, high: Decimal | None) -> str:
    if low is not None and high is not None:
        return f"{_number(low)} – {_number(high)}"
    if low is not None:
        return f"от {_number(low)}"
    return "" if high is None else f"до {_number(high)}"


def _share(row: Row) -> str:
    return "" if row.within is None else f"{row.within} ({_percent(row.within, row.measured)})"


def _percent(part: int, whole: int) -> str:
    return "" if whole <= 0 else f"{min(100, round(100 * part / whole))} %"
