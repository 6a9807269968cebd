"""Who may come in is copied, restored and moved by itself."""

import shutil

import pytest
from typer.testing import CliRunner

from fhir_server.app import now
from fhir_server.cli.main import app
from fhir_server.core.security.registration import Account, Client, Gateway
from fhir_server.security.registrations import Registrations, parse_gateway_key
from fhir_server.store.security.open import open_security_store


def command(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, " ".join(result.output.split())


def url_in(folder):
    folder.mkdir(exist_ok=True)
    return f"sqlite:///{folder}/fhir.db"


class Opened:
    def __init__(self, folder):
        self.store = open_security_store("", url_in(folder), now)
        self.registrations = Registrations(self.store, now)

    def __enter__(self):
        return self.registrations

    def __exit__(self, *_):
        self.store.close()


@pytest.fixture
def here(tmp_path):
    """Where a client, a revoked account and a gateway are registered; and the gateway's key."""
    folder = tmp_path / "here"
    with Opened(folder) as registrations:
        registrations.add(Client(client_id="app", scopes="system/*.rs", jwks={"keys": []}))
        registrations.add(Account(name="doctor", password="$argon2id$x", roles=("operator",)))
        registrations.revoke(Account, "doctor")
        registrations.add(Gateway(name="hub", mappings=("omron",)))
        key = parse_gateway_key(registrations.renew_gateway_key("hub"))
        yield folder, registrations, key


def everything(registrations):
    return [registrations.list(kind) for kind in (Client, Account, Gateway)]


def test_a_copy_is_made_while_it_is_used_and_lets_the_same_in(here, tmp_path):
    folder, registrations, key = here
    copy = tmp_path / "copy.db"
    code, said = command("backup", copy, "--security", "--store", url_in(folder))
    assert code == 0, said
    assert copy.stat().st_mode & 0o777 == 0o600
    before = everything(registrations)
    registrations.revoke(Gateway, "hub")
    restored = tmp_path / "restored"
    restored.mkdir()
    shutil.move(copy, restored / "security.db")
    with Opened(restored) as found:
        assert everything(found) == before
        assert found.gateway_of(key) is not None


def test_a_copy_replaces_nothing_and_is_of_nothing_else(here, tmp_path):
    folder, _, _ = here
    there = tmp_path / "there.db"
    there.write_text("somebody's")
    code, said = command("backup", there, "--security", "--store", url_in(folder))
    assert (code, there.read_text()) == (2, "somebody's"), said
    # The other way round it is no store of patients.
    url = f"sqlite:///{folder}/security.db"
    assert command("backup", tmp_path / "copy.db", "--store", url)[0] != 0
    assert command("backup", tmp_path / "copy.db", "--security", "--store", "mongodb://x/y")[0] == 2


def test_registrations_move_to_another_store(here, tmp_path):
    folder, registrations, key = here
    file, there = tmp_path / "registrations.ndjson", tmp_path / "there"
    assert command("registrations", "export", file, "--store", url_in(folder))[0] == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert key.secret not in file.read_text()
    for said in ("3 registered, 0 were there", "0 registered, 3 were there"):
        assert command("registrations", "import", file, "--store", url_in(there)) == (0, said)
    with Opened(there) as found:
        assert everything(found) == everything(registrations)
        assert found.gateway_of(key) is not None
        assert found.active(Account, "doctor") is None


def test_a_name_that_is_taken_stops_the_whole_import(here, tmp_path):
    folder, _, _ = here
    file, there = tmp_path / "registrations.ndjson", tmp_path / "there"
    command("registrations", "export", file, "--store", url_in(folder))
    with Opened(there) as found:
        found.add(Client(client_id="app", scopes="system/*.cruds"))
    code, said = command("registrations", "import", file, "--store", url_in(there))
    assert code == 2
    assert "app" in said
    with Opened(there) as found:
        assert found.list(Gateway) == []


def test_a_line_that_is_none_is_named_and_not_told(here, tmp_path):
    file = tmp_path / "registrations.ndjson"
    file.write_text('{"kind": "Client", "document": {"secret": "hush"}}\n')
    code, said = command("registrations", "import", file, "--store", url_in(tmp_path / "there"))
    assert code == 2
    assert "line 1" in said
    assert "hush" not in said
