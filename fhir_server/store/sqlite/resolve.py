"""Values of tokens and references as the integers that index rows have.

What was never stored has no integer, and no row: it is left out.
"""

# ruff: noqa: S608 - put together from constants; every value is bound

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from fhir_server.core.search.compare import uri_below
from fhir_server.core.search.query import (
    ReferenceValue,
    StringValue,
    TextValue,
    TokenValue,
    UriValue,
)
from fhir_server.store.sqlite.layout import chunks, values_rows
from fhir_server.store.sqlite.lookup import Lookup, Rank, starts_with
from fhir_server.store.sqlite.names import Names
from fhir_server.store.sqlite.sql import Sql, all_of, any_of, fetch, is_in, join, negation, sql

# Of more texts with a word, the word is asked for and not each text.
_FEW_TEXTS = 100
# More lookups than this are made one: many small walks cost more than one sort.
MANY = 16


class Resolver:
    """Makes lookups of names; `names` and `connection` are of the same snapshot."""

    def __init__(self, connection: sqlite3.Connection, names: Names) -> None:
        self._connection = connection
        self._names = names

    def tokens(self, parameter: int, values: Sequence[TokenValue]) -> Iterator[Lookup]:
        """Coded values, identifiers, or both: whatever the parameter has rows of."""
        if self._has_rows("token_entry", parameter):
            yield from _each(
                "token_entry", parameter, "i.code = %s", "i.code", self.codes(values), Rank.TOKEN
            )
            for system in self._whole_systems(values):
                yield Lookup(
                    "token_entry",
                    sql(
                        "i.parameter = %s AND i.code IN "
                        "(SELECT c.id FROM code c WHERE c.system = %s)",
                        parameter,
                        system,
                    ),
                    Rank.TOKEN,
                )
        if self._has_rows("identifier_entry", parameter):
            yield from self._identifiers(parameter, values)

    def codes(self, values: Sequence[TokenValue]) -> list[int]:
        """The ids of the codes that `values` name, of any system where they name none."""
        wanted: dict[str, set[str | None]] = {}
        for system, code in values:
            if code is not None:
                wanted.setdefault(code, set()).add(system)
        if len(values) == 1 and values[0].system is not None and values[0].code is not None:
            found = self._names.code(values[0].system, values[0].code)
            return [] if found is None else [found]
        ids: list[int] = []
        for part in chunks(list(wanted)):
            rows = self._connection.execute(
                f"WITH wanted (code) AS ({values_rows(len(part), 1)}) "
                "SELECT c.id, u.uri, c.code FROM wanted "
                "CROSS JOIN code c ON c.code = wanted.code CROSS JOIN uri u ON u.id = c.system",
                part,
            )
            ids += [
                i for i, uri, code in rows.fetchall() if not wanted[code].isdisjoint((None, uri))
            ]
        return ids

    def has_whole_systems(self, values: Sequence[TokenValue]) -> bool:
        return any(value.code is None for value in values)

    def texts(self, parameter: int, values: Sequence[StringValue]) -> Iterator[Lookup]:
        """Tokens by the beginning of their text."""
        texts = any_of(starts_with("d.folded", value.folded) for value in values)
        yield Lookup(
            "token_entry",
            sql(
                "i.parameter = %s AND (i.code, i.display) IN "
                "(SELECT d.code, d.id FROM display d WHERE %s)",
                parameter,
                texts,
            ),
            Rank.STRING,
        )
        if self._has_rows("identifier_entry", parameter):
            yield Lookup(
                "identifier_entry",
                sql(
                    "i.parameter = %s AND %s",
                    parameter,
                    any_of(starts_with("i.folded", value.folded) for value in values),
                ),
                Rank.SCAN,
                is_keyed=False,
            )

    def references(
        self, parameter: int, values: Sequence[ReferenceValue], target: str | None
    ) -> Iterator[Lookup]:
        """Local references and, unless only a `target` type counts, URLs."""
        plain = [v for v in values if v.url is None and v.version is None]
        yield from targets(parameter, self.keys(plain, target))
        for value in values:
            if value.url is None and value.version is not None:
                yield Lookup(
                    "reference_entry",
                    sql(
                        "i.parameter = %s AND %s AND i.version = %s",
                        parameter,
                        is_in("i.target", self.keys([value], target)),
                        value.version,
                    ),
                    Rank.REFERENCE,
                )
            elif value.url is not None and target is None:
                uri = self._names.uri(value.url)
                if uri is not None:
                    version = Sql("1")
                    if value.version is not None:
                        version = sql("i.version = %s", value.version)
                    yield Lookup(
                        "uri_entry",
                        all_of((sql("i.parameter = %s AND i.uri = %s", parameter, uri), version)),
                        Rank.REFERENCE,
                        is_ordered=True,
                    )

    def keys(self, values: Sequence[ReferenceValue], target: str | None) -> list[int]:
        """The keys of the resources that `values` may mean, of type `target` if it is given."""
        typed: list[tuple[int, str]] = []
        found: dict[int, None] = {}
        for resource_type, resource_id, *_ in values:
            if resource_id is None or target not in (None, resource_type or target):
                continue
            if (resource_type or target) is None:
                rows = self._connection.execute(
                    "SELECT r.key FROM type t CROSS JOIN resource r ON r.type = t.id AND r.id = ?",
                    (resource_id,),
                )
                found.update((row[0], None) for row in rows.fetchall())
            else:
                type_id = self._names.type(resource_type or target or "")
                if type_id is not None:
                    typed.append((type_id, resource_id))
        found.update((key, None) for key in self._names.resources(typed).values())
        return list(found)

    def other_tokens(self, parameter: int, values: Sequence[TokenValue]) -> Iterator[Lookup]:
        """Rows of the parameter that are none of `values`."""
        same = [is_in("i.code", self.codes(values))]
        systems = list(self._whole_systems(values))
        if systems:
            of_system = is_in("c.system", systems)
            same.append(sql("i.code IN (SELECT c.id FROM code c WHERE %s)", of_system))
        identified = [
            lookup.where
            for lookup in self._identifiers(parameter, values)
            if lookup.table == "identifier_entry"
        ]
        for table, conditions in (("token_entry", same), ("identifier_entry", identified)):
            yield Lookup(
                table,
                all_of((sql("i.parameter = %s", parameter), negation(any_of(conditions)))),
                Rank.SCAN,
                is_keyed=False,
            )

    def words(self, parameter: int, values: Sequence[TextValue]) -> Iterator[Lookup]:
        """Texts with any of these words."""
        has_word = any_of(
            starts_with("w.word", value.word) if value.is_prefix else sql("w.word = %s", value.word)
            for value in values
        )
        texts = sql("SELECT DISTINCT w.text FROM word w WHERE %s", has_word)
        found = fetch(self._connection, sql(f"%s LIMIT {_FEW_TEXTS + 1}", texts))
        if len(found) <= _FEW_TEXTS:
            ids = [row[0] for row in found]
            yield from _each("text_entry", parameter, "i.text = %s", "i.text", ids, Rank.STRING)
        else:
            yield Lookup(
                "text_entry",
                sql("i.parameter = %s AND i.text IN (%s)", parameter, texts),
                Rank.STRING,
                is_keyed=False,
            )

    def uris_below(self, parameter: int, values: Sequence[UriValue]) -> Iterator[Lookup]:
        """URIs that are one of `values`, or on its path."""
        is_below = any_of(
            condition
            for value in values
            for condition in (
                sql("u.uri = %s", value.uri),
                starts_with("u.uri", uri_below(value.uri)),
            )
        )
        yield Lookup(
            "uri_entry",
            sql(
                "i.parameter = %s AND i.uri IN (SELECT u.id FROM uri u WHERE %s)",
                parameter,
                is_below,
            ),
            Rank.STRING,
        )

    def uris(self, parameter: int, values: Sequence[UriValue]) -> Iterator[Lookup]:
        ids = [uri for value in values if (uri := self._names.uri(value.uri)) is not None]
        yield from _each("uri_entry", parameter, "i.uri = %s", "i.uri", ids, Rank.TOKEN)

    def _identifiers(self, parameter: int, values: Sequence[TokenValue]) -> Iterator[Lookup]:
        pairs: list[tuple[str, int]] = []
        anywhere: list[str] = []
        for system, code in values:
            if code is not None and system is None:
                anywhere.append(code)
            elif code is not None and (uri := self._names.uri(system or "")) is not None:
                pairs.append((code, uri))
        for part in (
            [sql("i.value = %s", value) for value in anywhere]
            if len(anywhere) <= MANY
            else [is_in("i.value", anywhere)]
        ):
            yield _identifier(parameter, part)
        for part in (
            [sql("i.value = %s AND i.system = %s", *pair) for pair in pairs]
            if len(pairs) <= MANY
            else [
                sql(
                    "(i.value, i.system) IN (VALUES %s)",
                    join(", ", (sql("(%s, %s)", *pair) for pair in pairs)),
                )
            ]
        ):
            yield _identifier(parameter, part)
        for whole in self._whole_systems(values):
            yield Lookup(
                "identifier_entry",
                sql("i.parameter = %s AND i.system = %s", parameter, whole),
                Rank.SCAN,
                is_keyed=False,
            )

    def _whole_systems(self, values: Sequence[TokenValue]) -> Iterator[int]:
        for system, code in values:
            if code is None and (uri := self._names.uri(system or "")) is not None:
                yield uri

    def _has_rows(self, table: str, parameter: int) -> bool:
        row: Any = self._connection.execute(
            f"SELECT 1 FROM {table} WHERE parameter = ? LIMIT 1",
            (parameter,),
        ).fetchone()
        return row is not None


def targets(parameter: int, keys: Sequence[int]) -> Iterator[Lookup]:
    """References to any of `keys`."""
    return _each("reference_entry", parameter, "i.target = %s", "i.target", keys, Rank.REFERENCE)


def _identifier(parameter: int, condition: Sql) -> Lookup:
    return Lookup(
        "identifier_entry", sql("i.parameter = %s AND %s", parameter, condition), Rank.IDENTITY
    )


def _each(
    table: str, parameter: int, is_one: str, column: str, ids: Sequence[int], rank: Rank
) -> Iterator[Lookup]:
    """A few ids one by one, each walked in order; many as one set."""
    of_parameter = sql("i.parameter = %s", parameter)
    if len(ids) <= MANY:
        for number in ids:
            yield Lookup(table, all_of((of_parameter, sql(is_one, number))), rank, is_ordered=True)
    else:
        yield Lookup(table, all_of((of_parameter, is_in(column, ids))), rank)
