"""Exports and imports as commands: what goes on, what is refused, what is imported once."""

import asyncio
import functools
import gzip
import json
from collections import Counter

import pytest
from typer.testing import CliRunner

from fhir_server import app as composition
from fhir_server.app import open_components
from fhir_server.cli.main import app
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import next_version
from fhir_server.settings import Settings


@pytest.fixture(autouse=True, scope="module")
def definitions_read_once():
    """Each command reads the definitions anew, which these tests are not about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composition, "load", functools.cache(composition.load))
        mappings = composition.open_components(Settings(store="sqlite:///:memory:")).mappings
        patch.setattr(composition, "compile_catalog", lambda *_: mappings)
        yield


def command(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, " ".join(done.output.split())


def succeed(*arguments):
    code, said = command(*arguments)
    assert code == 0, said
    return said


def with_store(url, work):
    async def scene():
        store = open_components(Settings(store=url)).store
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(scene())


def add(url, *names):
    """A new version of a Patient for each of the names."""

    def decide(tx):
        for name in names:
            key = ResourceKey("Patient", name)
            current = tx.read(key)
            body = {"resourceType": "Patient", "active": current is None}
            tx.put(*next_version(current, key, body, tx.now))

    with_store(url, lambda store: store.commit(decide))


def feed(url):
    return with_store(url, lambda store: store.changes(0, 10**6))


@pytest.fixture
def source(tmp_path):
    url = f"sqlite:///{tmp_path}/source.db"
    add(url, "a", "b", "a")
    return url


@pytest.fixture
def target(tmp_path):
    return f"sqlite:///{tmp_path}/target.db"


@pytest.mark.parametrize("name", ["some.ndjson", "some.ndjson.gz"])
def test_an_export_is_continued_by_what_came_since_and_so_is_its_import(
    tmp_path, source, target, name
):
    file = tmp_path / name
    succeed("export", file, "--store", source)
    succeed("import", file, "--store", target)
    before = file.read_bytes()
    add(source, "c", "a")
    succeed("export", file, "--store", source)
    assert file.read_bytes().startswith(before)
    assert "2 versions restored, 3 were there" in succeed("import", file, "--store", target)
    assert feed(target) == feed(source)
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["some.ndjson", "some.ndjson.gz"])
def test_a_torn_end_is_cut_off_and_written_again(tmp_path, source, name):
    whole, torn = tmp_path / name, tmp_path / f"torn-{name}"
    succeed("export", whole, "--store", source)
    add(source, "c")
    succeed("export", whole, "--store", source)
    size = whole.stat().st_size
    for length in (0, 9, size // 3, size // 2, size - 1):
        torn.write_bytes(whole.read_bytes()[:length])
        succeed("export", torn, "--store", source)
        unzip = gzip.decompress if name.endswith("gz") else bytes
        assert unzip(torn.read_bytes()) == unzip(whole.read_bytes())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.ndjson", b'{"resourceType":"Patient"}\n'),
        ("mine.ndjson", b"a line with no end"),
        ("mine.ndjson.gz", gzip.compress(b'{"resourceType":"Patient"}\n', mtime=0)),
        ("mine.ndjson.gz", gzip.compress(b"a text of somebody" * 100, mtime=0)[:40]),
        ("mine.ndjson.gz", b"no gzip at all"),
    ],
)
def test_a_file_that_is_no_export_is_never_written_over(tmp_path, source, name, content):
    file = tmp_path / name
    file.write_bytes(content)
    code, _ = command("export", file, "--store", source)
    assert code == 1
    assert file.read_bytes() == content


def test_an_export_of_another_store_is_not_continued(tmp_path, source, target):
    file = tmp_path / "some.ndjson"
    succeed("export", file, "--store", source)
    add(target, "a", "b", "c", "d")
    before = file.read_bytes()
    code, said = command("export", file, "--store", target)
    assert code == 1
    assert "another store" in said
    assert file.read_bytes() == before


def test_a_changed_export_is_refused_before_anything_is_written(tmp_path, source, target):
    file = tmp_path / "some.ndjson"
    succeed("export", file, "--store", source)
    content = file.read_bytes()
    swapped = b"\n".join(reversed(content.splitlines())) + b"\n"
    for wrong in (content.replace(b"true", b"tru\xce"), content[:-20], swapped, b""):
        file.write_bytes(wrong)
        code, _ = command("import", file, "--store", target)
        assert code == 1
        assert feed(target) == ()
    file.write_bytes(content)
    succeed("import", file, "--store", target)


def test_an_export_without_a_manifest_is_not_imported(tmp_path, source, target):
    file = tmp_path / "some.ndjson"
    succeed("export", file, "--store", source)
    (tmp_path / "some.ndjson.manifest.json").unlink()
    code, said = command("import", file, "--store", target)
    assert code == 1
    assert "run it again" in said


def test_a_store_that_went_its_own_way_is_not_imported_into(tmp_path, source, target):
    file = tmp_path / "some.ndjson"
    succeed("export", file, "--store", source)
    add(target, "other")
    before = feed(target)
    assert command("import", file, "--store", target)[0] == 1
    assert feed(target) == before


def test_what_was_not_delivered_is_told_and_can_be_delivered_there(tmp_path, source, target):
    adapters = {"national-registry": {"url": "http://127.0.0.1:9/fhir"}}
    file = tmp_path / "some.ndjson"
    environment = {"FHIR_SERVER_ADAPTERS": json.dumps(adapters)}
    done = CliRunner().invoke(app, ["export", str(file), "--store", source], env=environment)
    assert done.exit_code == 0
    assert "not everything was delivered" in " ".join(done.output.split())
    manifest = json.loads((tmp_path / "some.ndjson.manifest.json").read_text())
    assert manifest["undelivered_from"] == 1
    succeed("import", file, "--redeliver", "--store", target)
    assert with_store(target, lambda store: store.extent()).outbox == 0


def test_current_resources_are_written_as_fhirs_bulk_files(tmp_path, source):
    folder = tmp_path / "bulk"
    succeed("export", folder, "--format", "ndjson", "--store", source)
    lines = (folder / "Patient.ndjson").read_text().splitlines()
    found = {resource["id"]: resource for resource in map(json.loads, lines)}
    assert {name: resource["active"] for name, resource in found.items()} == {"a": False, "b": True}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["output"] == [{"type": "Patient", "url": "Patient.ndjson", "count": 2}]
    code, said = command("export", folder, "--format", "ndjson", "--type", "Pat", "--store", source)
    assert (code, "mind the case" in said) == (2, True)


def patient(number, **elements):
    return {"resourceType": "Patient", "id": f"p{number}", **elements}


def observation(value, **elements):
    return {
        "resourceType": "Observation",
        "identifier": [{"system": "urn:s", "value": value}],
        "status": "final",
        "code": {"text": "x"},
        **elements,
    }


@pytest.fixture(params=["store", "server"])
def door(request, target):
    """Options of the two ways in, and how to look at what came in."""
    if request.param == "store":
        return ["--store", target], lambda: feed(target)
    server = request.getfixturevalue("own_server")
    return ["--server", server.url], lambda: server.changes()


@pytest.fixture
def own_server():
    from tests.conformance.conftest import Client, Server

    with Server(plan_templates=False) as running:
        client = Client(running)

        def changes():
            entries = client.get("_history?_count=1000").json().get("entry", ())
            return [entry["resource"] for entry in entries]

        running.changes = changes
        yield running


def types(versions):
    return Counter(
        v["resourceType"] if isinstance(v, dict) else v.key.resource_type for v in versions
    )


def test_lines_are_imported_once_by_id_or_identifier(tmp_path, door):
    options, changes = door
    file = tmp_path / "some.ndjson"
    resources = [
        *(patient(number) for number in range(250)),
        *(observation(f"o|,{number}") for number in range(30)),
        patient(3, active=True),
    ]
    lines = [json.dumps(resource) for resource in resources]
    lines.insert(5, "")
    lines.insert(6, "no json")
    lines.append(json.dumps({"resourceType": "Device"}))
    lines.append(json.dumps(patient(999, gender="wrong")))
    file.write_text("\n".join(lines))
    code, said = command("import", file, *options)
    assert code == 1
    assert "280 created 1 stored before, or updated 3 not imported" in said
    for place in (7, 284, 285):
        assert f"some.ndjson:{place}: " in said
    assert types(changes()) == {"Patient": 251, "Observation": 30}
    file.write_text("\n".join(json.dumps(resource) for resource in resources[1:4]))
    succeed("import", file, *options)
    # p3 became as it was before: the only one of the second run.
    assert types(changes()) == {"Patient": 252, "Observation": 30}


def test_a_bundles_own_names_are_resolved_and_a_second_import_changes_nothing(tmp_path, door):
    options, changes = door
    name = "urn:uuid:0b1e9a86-7f0e-4d6f-9a43-bf4e3a4f4a01"
    entries = [
        {"fullUrl": name, "resource": {"resourceType": "Patient", "active": True}},
        {
            "fullUrl": "urn:uuid:7b1e9a86-7f0e-4d6f-9a43-bf4e3a4f4a02",
            "resource": observation("1", subject={"reference": name}),
        },
    ]
    collection = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    asked = [
        {**entry, "request": {"method": "POST", "url": entry["resource"]["resourceType"]}}
        for entry in entries
    ]
    transaction = {"resourceType": "Bundle", "type": "transaction", "entry": asked}
    for number, bundle in enumerate((collection, transaction, collection)):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(bundle))
        said = succeed("import", file, *options)
        assert ("2 created" in said) == (number == 0)
    found = changes()
    assert types(found) == {"Patient": 1, "Observation": 1}
    stored = next(
        v if isinstance(v, dict) else v.resource() for v in found if "Observation" in str(v)
    )
    assert stored["subject"]["reference"] == "Patient/0b1e9a86-7f0e-4d6f-9a43-bf4e3a4f4a01"


def test_bulk_files_of_an_export_come_in_again(tmp_path, source, target):
    folder = tmp_path / "bulk"
    succeed("export", folder, "--format", "ndjson", "--gzip", "--store", source)
    assert "2 created" in succeed("import", folder, "--store", target)
    assert "0 created" in succeed("import", folder, "--store", target)


def test_what_cannot_be_imported_is_said(tmp_path, source, target):
    file = tmp_path / "some.ndjson"
    succeed("export", file, "--store", source)
    code, said = command("import", file, "--server", "http://127.0.0.1:9")
    assert (code, "--store" in said) == (2, True)
    history = tmp_path / "history.json"
    history.write_text(json.dumps({"resourceType": "Bundle", "type": "history"}))
    code, said = command("import", history, "--store", target)
    assert (code, "history" in said) == (1, True)
