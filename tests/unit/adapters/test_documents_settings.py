"""The document registry's section of the settings: what is wrong is named."""

from datetime import UTC, datetime

import pytest

from adapters.national_registry.documents.settings import endpoint, from_settings
from adapters.national_registry.port import Surroundings
from fhir_server.core.search.parameter import SearchParameters


@pytest.fixture
def section(tmp_path):
    pair = {name: str(tmp_path / name) for name in ("certificate", "key")}
    for path in pair.values():
        (tmp_path / path).write_text("pem")
    return {
        "url": "https://registry.example/emdr",
        "client_entity_id": "c",
        "organization": {"oid": "1.2.3", "name": "n", "ogrn": "1027700132195"},
        "organization_key": pair,
        "doctors": {"17400354229": pair},
    }


def made(section):
    around = Surroundings(
        None, None, None, SearchParameters(()), lambda: datetime(2024, 5, 1, tzinfo=UTC)
    )
    return from_settings(section, around)


def test_little_is_enough(section):
    assert (made(section).name, made(section).batch_size) == ("document-registry", 1)


def test_every_setting_can_be_set(section):
    author = {"local_id": "1", "snils": "17400354229", "family": "f", "given": "g"}
    more = {
        "token": "t",
        "callback_token": "c",
        "signature": "gost",
        "documents": ["protocol"],
        "report_days": 7,
        "no_response_days": 3,
        "retry_seconds": 60,
        "attend_seconds": 5,
        "strict": True,
        "send_auxiliary": True,
        "author": {**author, "patronymic": "p", "position_code": "1", "position": "w"},
        "total_seconds": 20,
    }
    made({**section, **more})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"url": "http://registry.example"}, "https"),
        ({"client_entity_id": None}, "client_entity_id is missing"),
        ({"signature": "dsa"}, "signature must be one of"),
        ({"documents": ["letter"]}, "documents may name"),
        ({"documents": []}, "documents may name"),
        ({"report_days": -1}, "report_days"),
        ({"organization": {"oid": "1", "name": "n", "x": 1}}, "organization has unknown"),
        ({"organization": "n"}, "organization must be a table"),
        ({"organization_key": {"certificate": "/no", "key": "/no"}}, "there is no file"),
        ({"doctors": {"1": "x"}}, "doctors.1 must be a table"),
        (
            {"strict": True, "organization": {"oid": "1", "name": "n", "ogrn": "1"}},
            "ogrn: an OGRN has 13 digits",
        ),
        ({"what": 1}, "unknown settings: what"),
    ],
)
def test_a_wrong_setting_is_named(section, change, fault):
    with pytest.raises(ValueError, match=fault):
        made({**section, **change})


def test_a_callback_token_is_a_text():
    with pytest.raises(ValueError, match="callback_token"):
        endpoint({"callback_token": 7}, None, None)
