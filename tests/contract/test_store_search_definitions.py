"""Search parameters that are added while the store is used: live from one moment on, for
every process, and until then every search finds what it did."""

import asyncio

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.parse import UnknownParameter
from fhir_server.store.mongo import reindex as mongo_reindex
from fhir_server.store.sqlite import store as sqlite_store


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch):
    monkeypatch.setattr(sqlite_store, "_BATCH", 3)
    monkeypatch.setattr(mongo_reindex, "_AT_ONCE", 3)
    monkeypatch.setattr(mongo_reindex, "SETTLED_SECONDS", 0.0)


def definition(expression, code="spoken", **others):
    return {
        "resourceType": "SearchParameter",
        "url": f"https://pmp.example/fhir/SearchParameter/{code}",
        "status": "active",
        "code": code,
        "base": ["Patient"],
        "type": "string",
        "expression": expression,
        **others,
    }


BY_TEXT = definition("Patient.communication.language.text")
BY_DISPLAY = definition("Patient.communication.language.coding.display")
KIN = definition("Patient.link.other", "kin", type="reference", target=["Patient"])


def patient(resource_id, text="Russian", family="Ivanov"):
    return {
        "resourceType": "Patient",
        "id": resource_id,
        "name": [{"family": family}],
        "communication": [{"language": {"text": text, "coding": [{"display": f"old {text}"}]}}],
        "link": [{"other": {"reference": "Patient/p0"}, "type": "seealso"}],
    }


@pytest.fixture
def filled(driver):
    driver.write(*(patient(f"p{n}", "Tatar" if n % 2 else "Russian") for n in range(8)))
    driver.write(patient("p2", "Chuvash", "Petrov"))
    driver.delete(ResourceKey("Patient", "p7"))
    return driver


def adopt(driver):
    assert driver.run(driver.store.refresh())
    driver.parameters = driver.store.definitions.parameters


def reindex(driver, *live, report=lambda _: None):
    driver.run(driver.store.reindex(report, live))
    adopt(driver)


def test_a_parameter_is_live_after_a_reindex(filled):
    with pytest.raises(UnknownParameter):
        filled.ids("Patient?spoken=tatar")
    reindex(filled, BY_TEXT, KIN)
    assert filled.ids("Patient?spoken=tatar") == ["p1", "p3", "p5"]
    assert filled.ids("Patient?spoken:missing=true") == []
    assert filled.ids("Patient?spoken=chuvash&kin=p0&family=petrov") == ["p2"]
    assert filled.ids("Patient?kin.spoken=russian&spoken=tat") == ["p1", "p3", "p5"]
    assert filled.ids("Patient?_filter=spoken sw russ and not (_id eq p0)&_sort=-spoken") == [
        "p6",
        "p4",
    ]
    filled.write(patient("p9", "Tatar"))
    assert filled.ids("Patient?spoken=tatar") == ["p1", "p3", "p5", "p9"]
    assert filled.store.check().faults == ()


def test_a_definition_that_changed_takes_the_place_of_the_one_before(filled):
    reindex(filled, BY_TEXT)
    reindex(filled, BY_DISPLAY)
    assert filled.ids("Patient?spoken=tatar") == []
    assert filled.ids("Patient?spoken=old tatar") == ["p1", "p3", "p5"]
    assert filled.store.check().faults == ()
    reindex(filled)
    with pytest.raises(UnknownParameter):
        filled.ids("Patient?spoken=tatar")
    assert filled.ids("Patient?family=petrov") == ["p2"]
    assert filled.store.check().faults == ()


def test_searches_find_what_they_did_while_it_runs(filled):
    reindex(filled, BY_TEXT)
    other = filled.open_another()
    found, rounds = [], []
    changed = filled.query("Patient?spoken=tatar"), filled.query("Patient?family=ivanov")

    async def look():
        while not rounds:
            for query in changed:
                page = await other.search(query)
                found.append({v.key.resource_id for v in page.versions if v.key.resource_id < "x"})
            await asyncio.sleep(0)

    async def write():
        for n in range(6):
            resource = patient(f"x{n}", "Tatar")
            await other.commit(lambda tx, resource=resource: filled.put(tx, resource))

    async def run():
        looking = asyncio.ensure_future(look())
        await asyncio.gather(filled.store.reindex(lambda _: None, [BY_DISPLAY, BY_TEXT]), write())
        rounds.append(1)
        await looking

    filled.run(run())
    before = {"p1", "p3", "p5"}
    assert all(each in (before, before | {"p0", "p4", "p6"}) for each in found)
    # BY_TEXT comes last, so it is what `spoken` means; the other process wrote all the while.
    adopt(filled)
    assert {*filled.ids("Patient?spoken=tatar")} == before | {f"x{n}" for n in range(6)}
    assert filled.store.check().faults == ()
    assert other.check().faults == ()


def test_writes_of_a_process_that_knows_nothing_of_it_are_indexed(filled):
    other = filled.open_another()
    reindex(filled, BY_TEXT)
    resource = patient("late", "Tatar")
    filled.run(other.commit(lambda tx: filled.put(tx, resource)))
    assert filled.ids("Patient?spoken=tatar") == ["p1", "p3", "p5", "late"]


def test_another_process_notices_without_a_restart(filled):
    other = filled.open_another()
    filled.run(other.refresh())
    assert other.definitions.parameters.get("Patient", "spoken") is None
    reindex(filled, BY_TEXT)
    assert filled.run(other.refresh())
    assert other.definitions.parameters.get("Patient", "spoken") is not None
    assert not filled.run(other.refresh())


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("again", [(BY_TEXT,), (BY_DISPLAY,), None, ()])
def test_an_interrupted_reindex_is_resumed_or_given_up(filled, again):
    def interrupt(_position):
        raise Interrupted

    with pytest.raises(Interrupted):
        filled.run(filled.store.reindex(interrupt, [BY_TEXT]))
    assert filled.ids("Patient?family=petrov") == ["p2"]
    filled.write(patient("p8", "Tatar"))
    other = filled.open_another()
    filled.run(other.reindex(lambda _: None, again))
    adopt(filled)
    expected = ["p1", "p3", "p5", "p8"]
    if again == ():
        with pytest.raises(UnknownParameter):
            filled.ids("Patient?spoken=tatar")
    else:
        text = "old tatar" if again == (BY_DISPLAY,) else "tatar"
        assert filled.ids(f"Patient?spoken={text}") == expected
    assert other.check().faults == ()


def test_a_resource_that_a_new_expression_cannot_read_is_indexed_without_it(filled):
    reindex(filled, definition("Patient.name.where(use='official').family", "official"))
    assert filled.ids("Patient?official:missing=false") == []
