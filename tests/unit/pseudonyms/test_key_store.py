"""Keys of pseudonyms: the same for the same, another for each recipient, told to nobody else."""

import base64
from concurrent.futures import ThreadPoolExecutor

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.pseudonyms.key_store import PseudonymKeys, parse_key

KEY = bytes(range(32))
ANNA = ResourceKey("Patient", "anna-kuznetsova")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys" / "pseudonyms.db"


@pytest.fixture
def keys(path):
    keys = PseudonymKeys(path, KEY)
    yield keys
    keys.close()


def test_a_patient_has_one_pseudonym_at_a_recipient_and_it_leads_back(keys):
    name, days = keys.pseudonym("insurer", ANNA, 30)
    assert keys.pseudonym("insurer", ANNA, 30) == (name, days)
    assert keys.patient("insurer", name) == ANNA
    assert days != 0
    assert abs(days) <= 30


def test_recipients_do_not_share_pseudonyms(keys):
    name, _ = keys.pseudonym("insurer", ANNA, 30)
    other, _ = keys.pseudonym("research", ANNA, 30)
    assert name != other
    assert keys.patient("research", name) is None


def test_without_shifting_no_date_moves(keys):
    assert keys.pseudonym("insurer", ANNA, 0)[1] == 0


def test_another_process_knows_the_same(path, keys):
    name = keys.pseudonym("insurer", ANNA, 30)
    again = PseudonymKeys(path, KEY)
    assert again.pseudonym("insurer", ANNA, 30) == name
    again.close()


def test_threads_agree_about_a_patient_whom_they_meet_at_once(path, keys):
    other = PseudonymKeys(path, KEY)
    patients = [ResourceKey("Patient", str(number)) for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        for patient in patients:
            made = pool.map(lambda each, p=patient: each.pseudonym("r", p, 30), [keys, other] * 4)
            assert len(set(made)) == 1
    other.close()


def test_the_file_does_not_tell_who_is_in_it(path, keys):
    keys.pseudonym("insurer", ANNA, 30)
    written = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"anna" not in written
    assert path.stat().st_mode & 0o077 == 0


def test_another_key_is_refused(path, keys):
    with pytest.raises(ValueError, match="PSEUDONYM_KEY"):
        PseudonymKeys(path, bytes(32))


def test_what_is_no_patient_has_a_name_that_leads_nowhere(keys):
    masks = keys.masks("insurer", 30)
    device = ResourceKey("Device", "d1")
    assert masks.pseudonym(device) == masks.pseudonym(device)
    assert masks.pseudonym(device) != keys.masks("research", 30).pseudonym(device)
    assert keys.patient("insurer", masks.pseudonym(device)) is None


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(bytes(16)).decode(), "*" * 44])
def test_a_key_of_another_length_is_refused_and_not_told(text):
    with pytest.raises(ValueError, match="32 bytes") as told:
        parse_key(text)
    assert not text or text not in str(told.value)
