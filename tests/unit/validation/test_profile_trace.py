"""What a rule traces is a patient's: it is printed nowhere."""

from fhir_server.core.subscription_condition import compile_condition
from fhir_server.definitions import load


def test_a_condition_prints_nothing(capfd):
    holds = compile_condition("%current.name.trace('who').exists()")
    assert holds(None, {"resourceType": "Patient", "name": [{"family": "x"}]})
    assert capfd.readouterr().out == ""


def test_a_system_that_is_a_list_is_a_fault_and_no_crash():
    from fhir_server.core.terminology.value_set import Codes
    from fhir_server.core.validation.profile_binding import has_code

    codes = Codes(frozenset({("urn:s", "c")}), frozenset({"urn:t"}))
    assert not has_code({"coding": [{"system": ["urn:s"], "code": "c"}]}, codes)
    assert has_code({"coding": [{"system": "urn:t", "code": "c"}]}, codes)


def test_a_type_that_is_a_list_is_a_fault_and_no_crash():
    from fhir_server.core.validation.profiled import check_claims

    inner = {"resourceType": ["Basic"]}
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "x", "resource": inner}]}
    profiles = load().profiles
    check_claims(lambda _claims: profiles, parameters, "warn")
