"""Nothing tells of another patient: no answer differs from that of a world without them."""

import re
from collections.abc import Iterator

import pytest

from fhir_server.rest.routes import FHIR_ROUTES
from tests.conformance.access_paths import Request, reading, writing
from tests.conformance.access_scene import PRINCIPALS, World, worlds_apart
from tests.faults.kit import SCALE
from tests.provision import mongod


@pytest.fixture(scope="module", params=["sqlite", "mongo"])
def worlds(request, tmp_path_factory) -> Iterator[tuple[World, World]]:
    """One in which Boris lives, and one in which he does not."""
    if request.param == "sqlite":
        with worlds_apart("sqlite:///:memory:", "sqlite:///:memory:") as found:
            yield found
    else:
        with mongod.databases(tmp_path_factory) as new_database:
            with worlds_apart(new_database(), new_database()) as found:
                yield found


@pytest.fixture(params=sorted(PRINCIPALS))
def who(request, worlds) -> str:
    """On MongoDB one of them, unless there is time: it asks many more commands of it."""
    if request.param != "physician" and SCALE <= 1 and worlds[0].store.startswith("mongodb"):
        pytest.skip("asked with FHIR_SERVER_TEST_SCALE above 1")
    name: str = request.param
    return name


def _differences(worlds, who: str, requests: Iterator[Request]) -> list[str]:
    found = []
    for request in requests:
        method, path, body, headers = request
        told = [world.told(world.ask(who, method, path, body, **dict(headers))) for world in worlds]
        if told[0] != told[1]:
            found.append(f"{method} {path} {headers}: {_at_first_difference(*map(str, told))}")
    return found


def _at_first_difference(one: str, other: str) -> str:
    pairs = enumerate(zip(one, other, strict=False))
    start = next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))
    return " / ".join(
        f"{text[:5]}…{text[max(start - 150, 5) : start + 250]}" for text in (one, other)
    )


def test_no_answer_tells_of_whom_one_may_not_see(worlds, who):
    differences = _differences(worlds, who, reading())
    assert not differences, f"{len(differences)}: " + "\n".join(differences[:5])


@pytest.mark.parametrize("other", ["hospital", "other", "colleague"])
def test_the_same_requests_find_him_for_those_who_may(worlds, other):
    # Were the worlds alike for all, the test above could not fail.
    few = [Request("GET", path) for path in ("Patient/boris", "Observation?patient=boris")]
    assert len(_differences(worlds, other, iter(few))) == 2


def test_every_route_is_among_what_is_asked():
    asked = {(r.method, _shape(r.path)) for r in (*reading(), *writing())}
    missing = [
        f"{route.method} {route.path}"
        for route in FHIR_ROUTES
        if not any(
            # An operation does the same, whichever way its inputs come.
            ("$" in route.path or method == route.method) and _matches(route.path, shape)
            for method, shape in asked
        )
    ]
    assert not missing


def _shape(path: str) -> str:
    return "/" + path.partition("?")[0].strip("/")


def _matches(route: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\\\{\w+\\\}", r"[^_$/][^/]*", re.escape(route)), path) is not None


def test_no_write_tells_of_whom_one_may_not_see_or_touches_them(worlds, who):
    ids = [f"{t}/{i}" for t, i in _ALL_OF_BORIS]
    before = [worlds[0].ask("hospital", "GET", path).headers.get("ETag") for path in ids]
    assert any(before)
    differences = _differences(worlds, who, writing())
    assert not differences, f"{len(differences)}: " + "\n".join(differences[:5])
    after = [worlds[0].ask("hospital", "GET", path).headers.get("ETag") for path in ids]
    assert after == before


_ALL_OF_BORIS = [
    (request.path.split("/")[0], request.path.split("/")[1])
    for request in writing()
    if request.method == "DELETE" and "/boris" in request.path
]
