"""New ids: UUIDs of version 7, in the order of their making, none twice."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from uuid import RFC_4122, UUID

from fhir_server.core.identity import is_resource_id
from fhir_server.new_id import new_id


def test_an_id_is_a_uuid_of_version_7_as_it_is_written() -> None:
    for text in (new_id() for _ in range(1_000)):
        found = UUID(text)
        assert (found.version, found.variant, str(found)) == (7, RFC_4122, text)
        assert is_resource_id(text)


def test_a_later_id_is_never_in_front_of_an_earlier_moment() -> None:
    # Their first half is the time; the clock may stand still, it does not go back here.
    moments = [new_id()[:18] for _ in range(1_000)]
    assert all(one <= other for one, other in pairwise(moments))


def test_threads_are_never_given_the_same_id() -> None:
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: [new_id() for _ in range(2_000)], range(8)))
    assert len({text for some in made for text in some}) == 16_000
