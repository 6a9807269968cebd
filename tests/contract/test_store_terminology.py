"""Stored terminology on every store: known at once in every process, whole in its fragments."""

import asyncio
from dataclasses import replace

import pytest

from fhir_server.cli.terminology import fragments
from fhir_server.core.identity import ResourceKey
from fhir_server.core.operation_input import Input, Inputs
from fhir_server.core.resource_json import parse
from fhir_server.errors import NotFound
from fhir_server.interactions.context import Context
from fhir_server.interactions.definition_shelf import DefinitionShelf
from fhir_server.interactions.operation import Invocation
from fhir_server.operations.closure import keep_closure
from fhir_server.operations.expand import expand_value_set
from fhir_server.operations.lookup import lookup


class NoRules:
    resource_types = frozenset({"CodeSystem", "ValueSet", "ConceptMap"})

    def check(self, resource):
        return ()


def context(driver, store):
    return Context(
        store,
        driver.parameters,
        NoRules(),
        driver.clock,
        lambda: "id",
        terminology=driver.terminology,
        shelf=DefinitionShelf(store.outbox, driver.terminology),
    )


@pytest.fixture(name="processes")
def make_processes(driver):
    """Two processes of the server on one store."""
    return context(driver, driver.store), context(driver, driver.open_another())


def animals(display="Cat", **others):
    return {
        "resourceType": "CodeSystem",
        "id": "animals",
        "url": "urn:animals",
        "version": "1",
        "name": "Animals",
        "status": "active",
        "content": "complete",
        "concept": [{"code": "cat", "display": display, "concept": [{"code": "lynx"}]}],
        **others,
    }


def call(resource_type, **inputs):
    given = Inputs(Input(name, value, f"x.{name}") for name, value in inputs.items())
    return Invocation(resource_type, None, given)


def display(driver, ctx):
    answer = driver.run(lookup(ctx, call("CodeSystem", system="urn:animals", code="cat")))
    return next(e["valueString"] for e in parse(answer)["parameter"] if e["name"] == "display")


def expanded(driver, ctx, **inputs):
    answer = parse(driver.run(expand_value_set(ctx, call("ValueSet", **inputs))))["expansion"]
    return [each["code"] for each in answer.get("contains", ())]


def test_every_process_knows_at_once_what_any_of_them_stores(driver, processes):
    for ctx in processes:
        with pytest.raises(NotFound):
            display(driver, ctx)
    for name in ("Cat", "House cat"):
        driver.write(animals(name))
        assert [display(driver, ctx) for ctx in processes] == [name, name]
    driver.delete(ResourceKey("CodeSystem", "animals"))
    for ctx in processes:
        with pytest.raises(NotFound):
            display(driver, ctx)


def test_what_did_not_change_is_not_read_again(driver, processes):
    ctx = processes[0]
    driver.write(animals())
    display(driver, ctx)
    known, _ = ctx.shelf.current()
    driver.write({"resourceType": "Patient", "id": "p"})
    display(driver, ctx)
    assert ctx.shelf.current()[0] is known


def test_a_code_system_is_complete_only_with_all_its_fragments(driver, processes):
    concepts = [{"code": f"c{n}", "concept": [{"code": f"c{n}.1"}]} for n in range(1_100)]
    whole = animals(concept=concepts)
    *parts, last = fragments(whole, 2_200)
    assert [len(each["concept"]) for each in parts] == [1_000, 1_000, 200]
    url = {"url": "urn:animals?fhir_vs=isa/c1"}
    driver.write(*parts[:-1], last)
    assert driver.ids("CodeSystem?url=urn:animals&content-mode=complete") == [last["id"]]
    with pytest.raises(Exception, match="not all known"):
        expanded(driver, processes[0], **url)
    driver.write(parts[-1])
    for ctx in processes:
        assert expanded(driver, ctx, **url) == ["c1", "c1.1"]
        assert len(expanded(driver, ctx, url="urn:animals?fhir_vs")) == 2_200


@pytest.mark.parametrize("codes", [("cat", "lynx"), ("lynx", "cat")])
def test_a_closure_grows_in_any_process_and_loses_nothing(driver, processes, codes):
    driver.write(animals())

    def close(ctx, *codes):
        inputs = [Input("name", "mine", "x.name")]
        inputs += [
            Input("concept", {"system": "urn:animals", "code": code}, "x.concept") for code in codes
        ]
        return keep_closure(ctx, Invocation(None, None, Inputs(inputs)))

    async def both():
        return await asyncio.gather(*(close(*each) for each in zip(processes, codes, strict=True)))

    answers = [parse(each) for each in driver.run(both())]
    told = [
        (element["code"], target["code"])
        for answer in answers
        for group in answer.get("group", ())
        for element in group["element"]
        for target in element.get("target", ())
    ]
    # Whichever came second told it, once.
    assert told == [("lynx", "cat")]
    assert sorted(each["version"] for each in answers) == ["1", "2"]


def test_a_process_without_a_shelf_reads_each_time(driver, processes):
    ctx = replace(processes[0], shelf=None)
    for name in ("Cat", "House cat"):
        driver.write(animals(name))
        assert display(driver, ctx) == name
