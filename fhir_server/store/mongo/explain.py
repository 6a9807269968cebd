"""Explaining: the queries a search becomes, which indexes they use, and what they look at.

The search is run, as later queries depend on what earlier ones find. Nothing of a request
or a resource is told: the database's explanations are reduced to names and numbers.
"""

from collections.abc import Iterator
from typing import Any

from pymongo.synchronous.database import Database

from fhir_server.core.search.query import Query
from fhir_server.store.mongo import blocking
from fhir_server.store.mongo.indexes import Indexes
from fhir_server.store.mongo.search import search
from fhir_server.store.mongo.steps import Document, Find, Step
from fhir_server.store.protocol import Page


def explain(database: Database[Document], indexes: Indexes, query: Query) -> tuple[str, ...]:
    """How `query` is found, in lines; blocks."""
    lines: list[str] = []
    steps = search(query)
    try:
        step = next(steps)
        while True:
            lines.append(_explained(step, database, indexes))
            step = steps.send(blocking.answer(step, database, indexes, None))
    except StopIteration as finished:
        page: Page = finished.value
    lines.append(f"MongoDB: {len(lines)} queries for {len(page.versions)} matches")
    return tuple(lines)


def _explained(step: Step, database: Database[Document], indexes: Indexes) -> str:
    hint = indexes.hint(step.collection, step.hint) if step.hint else None
    if isinstance(step, Find):
        command: Document = {"find": step.collection, "filter": step.filter}
        optional = {
            "projection": step.projection,
            "sort": dict(step.sort),
            "limit": step.limit,
            "hint": hint,
        }
    else:
        command = {"aggregate": step.collection, "pipeline": list(step.pipeline), "cursor": {}}
        optional = {"hint": hint}
    command |= {name: value for name, value in optional.items() if value}
    found = database.command(
        {"explain": command, "verbosity": "executionStats", "maxTimeMS": blocking.LONGEST_READ}
    )
    stages = list(dict.fromkeys(_stages(found)))
    keys, documents = _sum(found, "totalKeysExamined"), _sum(found, "totalDocsExamined")
    return (
        f"MongoDB: {step.collection}: {' < '.join(stages) or 'as it is'}; "
        f"{keys} index keys and {documents} documents looked at"
    )


def _stages(found: Any) -> Iterator[str]:
    """The stages of the plan that won, from the outermost in."""
    if isinstance(found, list):
        for item in found:
            yield from _stages(item)
        return
    if not isinstance(found, dict):
        return
    if isinstance(found.get("stage"), str):
        index = found.get("indexName")
        yield f"{found['stage']} {index}" if index else found["stage"]
    for name, value in found.items():
        if name not in ("rejectedPlans", "executionStats", "command", "parsedQuery", "filter"):
            yield from _stages(value)


def _sum(found: Any, name: str) -> int:
    if isinstance(found, list):
        return sum(_sum(item, name) for item in found)
    if not isinstance(found, dict):
        return 0
    own = found.get(name)
    if isinstance(own, int):
        return own
    return sum(_sum(value, name) for value in found.values())
