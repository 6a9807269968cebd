"""First pages: the newest or oldest of one subject, asked for by many at the same moment.

What hospitals ask for all day. The pages are branches of one pipeline that sees one moment,
beside the state of that moment, so none of them is bound to a sequence that had to be asked
for before. No branch can be told its index: each is put so that one alone can answer it.
Whatever is unusual about the rows is left to the search that does everything.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter

from fhir_server.core.search.query import AllOf, AnyOf, Clause, Criterion, Cursor, Query, Total
from fhir_server.store.mongo import keys, owners, timeline
from fhir_server.store.mongo.criteria import Scope
from fhir_server.store.mongo.rows import ANY_CODE, CURRENT, VERSION_FIELDS, to_plain
from fhir_server.store.mongo.search import to_page
from fhir_server.store.mongo.steps import Aggregate, Document, Filter, Steps
from fhir_server.store.mongo.timeline import Timeline
from fhir_server.store.protocol import FirstPage, Page

_LARGEST = 100
# Of all subjects together; where there are more, each is searched for alone.
_MOST_WIDE = 200
_EARLIEST = -(2**63)
_REMEMBERED = 4_096
# Characters of the codes of one that is remembered: a search may be as long as a request.
_LONGEST = 500

_Subject = tuple[str, str]
"""The field of a timeline, and the id in it."""


class PlannedPage:
    """A first page that one branch can find."""

    __slots__ = (
        "has_all", "index_name", "is_unusual", "length", "query", "shown", "subject", "whole",
        "wide_before",
    )  # fmt: skip

    def __init__(self, query: Query, planned: Timeline, codes: Sequence[str]) -> None:
        path = planned.path
        self.query = query
        self.subject: _Subject = (path.field, planned.ids[0])
        self.index_name = path.index_name
        self.length = sum(map(len, codes))
        self.is_unusual = False
        start: Filter = {path.field: planned.ids[0]}
        if path.token is not None:
            start["hc"] = codes[0] if len(codes) == 1 else {"$in": list(codes)}
        match, wide = planned.stretch(start)
        self.wide_before: int | None = None if wide is None else wide["hd"]["$lt"]
        """Wide ranges that begin before it may match as well; None where they are found."""
        if planned.direction < 0 and planned.bounds is None:
            # What has no date stands at the end, where it belongs.
            del match["hd"]
        self.has_all = planned.bounds is not None or planned.direction < 0
        match["s"] = CURRENT
        if path.target == "Patient":
            match |= Scope(0, query.restriction, is_owned=True).owned_by(planned.ids)
        if planned.date is not None:
            match["$and"] = [planned.date]
        found: list[Document] = [
            {"$match": match},
            {"$sort": {"hd": planned.direction, "_id": planned.direction}},
            {"$limit": query.count + 1},
        ]
        place = {"hd": 1, path.field: 1}
        self.whole = [*found, {"$project": {**VERSION_FIELDS, **place}}]
        self.shown = [*found, {"$project": {"b": 1, **place}}]
        """What finds all of the versions, and what finds their bodies."""


def plan(query: Query) -> PlannedPage | None:
    """The first page that `query` asks for; None where it is another search.

    It relies on every version saying its owner.
    """
    if not 0 < query.count <= _LARGEST or query.total is not Total.NONE:
        return None
    if query.after is not None or query.before is not None or query.as_of is not None:
        return None
    planned = timeline.plan(query)
    if planned is None or not planned.is_in_order or len(planned.ids) != 1:
        return None
    restrictions = Scope(0, query.restriction).restrictions(query.resource_type)
    if not all(_is_said(planned, criterion) for criterion in (*planned.rest, *restrictions)):
        return None
    codes = [keys.code(code, system) for system, code in planned.codes if code and system]
    if len(codes) < len(planned.codes):
        return None
    return PlannedPage(query, planned, codes or [ANY_CODE])


class Plans:
    """What `plan` says, remembered for what is asked again and again."""

    def __init__(self) -> None:
        self._remembered: dict[Query, PlannedPage] = {}

    def plan(self, query: Query) -> PlannedPage | None:
        found = self._remembered.get(query)
        if found is None and (found := plan(query)) is not None and found.length <= _LONGEST:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[query] = found
        return found


def find(pages: Sequence[PlannedPage]) -> Steps[list[Page | None]]:
    """Each of the pages; None for one that has to be searched for."""
    found = yield from _find(pages, attrgetter("whole"))
    answers: list[Page | None] = []
    for page in pages:
        rows, as_of = found[page]
        for row in rows or ():
            row["sort0"] = row.get("hd")
        answers.append(None if rows is None else to_page(page.query, rows, as_of))
    return answers


def show(pages: Sequence[PlannedPage]) -> Steps[list[FirstPage | None]]:
    """The bodies of each of the pages; None for one that has to be searched for."""
    found = yield from _find(pages, attrgetter("shown"))
    answers: list[FirstPage | None] = []
    for page in pages:
        rows, as_of = found[page]
        if rows is None:
            answers.append(None)
            continue
        count = page.query.count
        following = None
        if len(rows) > count:
            last = rows[count - 1]
            following = Cursor((to_plain(last.get("hd")),), int(last["_id"]))
        answers.append(FirstPage([row["b"] for row in rows[:count]], as_of, following))
    return answers


def _find(
    pages: Sequence[PlannedPage], branch: Callable[[PlannedPage], list[Document]]
) -> Steps[dict[PlannedPage, tuple[list[Document] | None, int]]]:
    """The rows of each page, with one more if there is, and the moment they are of."""
    found: dict[PlannedPage, tuple[list[Document] | None, int]] = {}
    waiting = list(pages)
    while waiting:
        # Rows are told apart by their subject.
        by_subject = {page.subject: page for page in reversed(waiting)}
        waiting = [page for page in waiting if by_subject[page.subject] is not page]
        rows = yield Aggregate(
            _pipeline(list(by_subject.values()), branch),
            collection="state",
            is_of_one_moment=True,
        )
        as_of = int(rows[0]["sequence"])
        own: dict[_Subject, list[Document]] = {subject: [] for subject in by_subject}
        wide: list[Document] = []
        is_plain = True
        for row in rows[1:]:
            if "hw" in row:
                wide.append(row)
                continue
            field = "hp" if "hp" in row else "hv"
            if not isinstance(row[field], str):
                is_plain = False
                continue
            own[field, row[field]].append(row)
        for subject, page in by_subject.items():
            has_all = page.has_all or len(own[subject]) > page.query.count
            is_whole = is_plain and has_all and not _may_miss(page, wide)
            found[page] = (own[subject] if is_whole else None, as_of)
    return found


def _pipeline(
    pages: Sequence[PlannedPage], branch: Callable[[PlannedPage], list[Document]]
) -> list[Document]:
    branches: list[list[Document]] = []
    open_ended: dict[str, list[str]] = {}
    for page in pages:
        branches.append(branch(page))
        if page.wide_before is not None:
            field, resource_id = page.subject
            open_ended.setdefault(field, []).append(resource_id)
    for field, ids in open_ended.items():
        match: Filter = {field: {"$in": ids}, "hw": True, "hd": {"$gte": _EARLIEST}}
        if field == "hp":
            match |= owners.narrowing(ids)
        shown = {field: 1, "hw": 1, "hd": 1, "_id": 0}
        branches.append([{"$match": match}, {"$limit": _MOST_WIDE}, {"$project": shown}])
    return [
        {"$match": {"_id": "commits"}},
        *({"$unionWith": {"coll": "versions", "pipeline": branch}} for branch in branches),
    ]


def _may_miss(page: PlannedPage, wide: Sequence[Document]) -> bool:
    """Whether a wide range that the branch does not find may match."""
    if page.wide_before is None:
        return False
    field, resource_id = page.subject
    return len(wide) >= _MOST_WIDE or any(
        row.get(field) == resource_id
        # Of several dates the earliest is as good as unknown.
        and (isinstance(row["hd"], list) or row["hd"] < page.wide_before)
        for row in wide
    )


def _is_said(planned: Timeline, criterion: Criterion) -> bool:
    """Whether whatever is on the timeline meets the criterion."""
    match criterion:
        case Clause(parameter, "", values):
            found = timeline.subjects(parameter, values, planned.path)
            return found is not None and set(planned.ids) <= set(found)
        case AnyOf(criteria):
            return any(_is_said(planned, each) for each in criteria)
        case AllOf(criteria):
            return all(_is_said(planned, each) for each in criteria)
    return False
