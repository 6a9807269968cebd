"""What R4 publishes of the value sets that Observation, Device and CarePlan are bound to.

From HL7's package `hl7.fhir.r4.expansions` 4.0.1 (CC0-1.0): codes and displays, in its order.
Of the sets that are bound there it has three kinds more: languages, and what a reference range
applies to, which are compared by their codes (its names of languages are Danish and Dutch, and
names of SNOMED CT concepts are not here), and those of LOINC or SNOMED CT that need all of it.
"""

from datetime import UTC, datetime
from hashlib import sha256

import pytest

from fhir_server.core.terminology.checking import check_in_value_set
from fhir_server.core.terminology.coding import Asked
from fhir_server.core.terminology.expansion import Wish, expand
from fhir_server.core.terminology.terminology import NotLoaded, Unknown
from fhir_server.core.terminology.value_set import NotTold
from fhir_server.definitions import load, load_element_types

VALUE_SET = "http://hl7.org/fhir/ValueSet/"
FHIR = "http://hl7.org/fhir/"
THO = "http://terminology.hl7.org/CodeSystem/"

PUBLISHED = {
    "observation-status": (
        f"{FHIR}observation-status",
        "registered=Registered|preliminary=Preliminary|final=Final|amended=Amended"
        "|corrected=Corrected|cancelled=Cancelled|entered-in-error=Entered in Error"
        "|unknown=Unknown",
    ),
    "observation-category": (
        f"{THO}observation-category",
        "social-history=Social History|vital-signs=Vital Signs|imaging=Imaging"
        "|laboratory=Laboratory|procedure=Procedure|survey=Survey|exam=Exam|therapy=Therapy"
        "|activity=Activity",
    ),
    "data-absent-reason": (
        f"{THO}data-absent-reason",
        "unknown=Unknown|asked-unknown=Asked But Unknown|temp-unknown=Temporarily Unknown"
        "|not-asked=Not Asked|asked-declined=Asked But Declined|masked=Masked"
        "|not-applicable=Not Applicable|unsupported=Unsupported|as-text=As Text|error=Error"
        "|not-a-number=Not a Number (NaN)|negative-infinity=Negative Infinity (NINF)"
        "|positive-infinity=Positive Infinity (PINF)|not-performed=Not Performed"
        "|not-permitted=Not Permitted",
    ),
    "observation-interpretation": (
        f"{THO}v3-ObservationInterpretation",
        "CAR=Carrier|B=Better|D=Significant change down|U=Significant change up|W=Worse"
        "|<=Off scale low|>=Off scale high|IE=Insufficient evidence|A=Abnormal"
        "|AA=Critical abnormal|HH=Critical high|LL=Critical low|H=High|HU=Significantly high"
        "|L=Low|LU=Significantly low|N=Normal|I=Intermediate|NCL=No CLSI defined breakpoint"
        "|NS=Non-susceptible|R=Resistant|SYN-R=Synergy - resistant|S=Susceptible"
        "|SDD=Susceptible-dose dependent|SYN-S=Synergy - susceptible|EX=outside threshold"
        "|HX=above high threshold|LX=below low threshold|IND=Indeterminate|E=Equivocal"
        "|NEG=Negative|ND=Not detected|POS=Positive|DET=Detected|EXP=Expected|UNE=Unexpected"
        "|NR=Non-reactive|RR=Reactive|WR=Weakly reactive",
    ),
    "referencerange-meaning": (
        f"{THO}referencerange-meaning",
        "type=Type|normal=Normal Range|recommended=Recommended Range|treatment=Treatment Range"
        "|therapeutic=Therapeutic Desired Level|pre=Pre Therapeutic Desired Level"
        "|post=Post Therapeutic Desired Level|endocrine=Endocrine|pre-puberty=Pre-Puberty"
        "|follicular=Follicular Stage|midcycle=MidCycle|luteal=Luteal"
        "|postmenopausal=Post-Menopause",
    ),
    "device-status": (
        f"{FHIR}device-status",
        "active=Active|inactive=Inactive|entered-in-error=Entered in Error|unknown=Unknown",
    ),
    "device-status-reason": (
        f"{THO}device-status-reason",
        "online=Online|paused=Paused|standby=Standby|offline=Offline|not-ready=Not Ready"
        "|transduc-discon=Transducer Disconnected|hw-discon=Hardware Disconnected|off=Off",
    ),
    "device-nametype": (
        f"{FHIR}device-nametype",
        "udi-label-name=UDI Label name|user-friendly-name=User Friendly name"
        "|patient-reported-name=Patient Reported name|manufacturer-name=Manufacturer name"
        "|model-name=Model name|other=other",
    ),
    "udi-entry-type": (
        f"{FHIR}udi-entry-type",
        "barcode=Barcode|rfid=RFID|manual=Manual|card=Card|self-reported=Self Reported"
        "|unknown=Unknown",
    ),
    "request-status": (
        f"{FHIR}request-status",
        "draft=Draft|active=Active|on-hold=On Hold|revoked=Revoked|completed=Completed"
        "|entered-in-error=Entered in Error|unknown=Unknown",
    ),
    "care-plan-intent": (
        f"{FHIR}request-intent",
        "proposal=Proposal|plan=Plan|order=Order|option=Option",
    ),
    "care-plan-activity-kind": (
        f"{FHIR}resource-types",
        "Appointment=Appointment|CommunicationRequest=CommunicationRequest"
        "|DeviceRequest=DeviceRequest|MedicationRequest=MedicationRequest"
        "|NutritionOrder=NutritionOrder|Task=Task|ServiceRequest=ServiceRequest"
        "|VisionPrescription=VisionPrescription",
    ),
    "care-plan-activity-status": (
        f"{FHIR}care-plan-activity-status",
        "not-started=Not Started|scheduled=Scheduled|in-progress=In Progress|on-hold=On Hold"
        "|completed=Completed|cancelled=Cancelled|stopped=Stopped|unknown=Unknown"
        "|entered-in-error=Entered in Error",
    ),
}


@pytest.fixture(scope="module")
def terminology():
    return load().terminology


def published(name):
    system, text = PUBLISHED[name]
    pairs = [each.rpartition("=") for each in text.split("|")]
    return [(system, code, display) for code, _, display in pairs]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("version", ["", "|4.0.1"])
def test_an_expansion_is_the_published_one(terminology, name, version):
    members = terminology.selection(VALUE_SET + name + version).members()
    found = [
        (each.system, each.concept.code, each.concept.display)
        for each in members
        if not each.concept.is_abstract
    ]
    assert found == published(name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_validate_code_answers_as_the_published_expansion_has_it(terminology, name):
    selection = terminology.selection(VALUE_SET + name)

    def is_valid(asked):
        verdict = check_in_value_set(terminology, selection, [asked], None, may_be_abstract=False)
        return verdict.is_valid

    for system, code, display in published(name):
        assert is_valid(Asked(system, code))
        assert is_valid(Asked(system, code, None, display))
        assert is_valid(Asked("", code))
        assert is_valid(Asked(system, f"{code}-")) is False
        assert is_valid(Asked("urn:other", code)) is False
        assert is_valid(Asked(system, code, None, "Something else")) is False


LANGUAGES = """
ar bn cs da de de-AT de-CH de-DE el en en-AU en-CA en-GB en-IN en-NZ en-SG en-US es es-AR es-ES
es-UY fi fr fr-BE fr-CH fr-FR fy fy-NL hi hr it it-CH it-IT ja ko nl nl-BE nl-NL no no-NO pa pl pt
pt-BR ru ru-RU sr sr-RS sv sv-SE te zh zh-CN zh-HK zh-SG zh-TW
"""
# The digest of its 924 codes in the published order.
APPLIES_TO = "943be08ff65fee72bc6e8be95b48cf6aab1b4265f1db1e75613d2151aee3454b"
NEED_ALL_OF_ANOTHERS = (
    *("body-site", "care-plan-activity-outcome", "care-plan-category", "clinical-findings"),
    *("device-type", "medication-codes", "observation-codes", "observation-methods"),
    "procedure-code",
)


def expanded(terminology, name):
    """The codes, where what is not known here is known nowhere."""
    while True:
        try:
            selection = terminology.selection(VALUE_SET + name)
            found = expand({}, selection, Wish(), "urn:x", datetime(2024, 5, 1, tzinfo=UTC))
            return [(each["system"], each["code"]) for each in found["expansion"]["contains"]]
        except NotLoaded as missing:
            terminology = terminology.having(missing, None)


def test_the_languages_are_the_published_ones(terminology):
    assert expanded(terminology, "languages") == [
        ("urn:ietf:bcp:47", code) for code in LANGUAGES.split()
    ]


def test_what_a_reference_range_applies_to_is_what_is_published(terminology):
    found = expanded(terminology, "referencerange-appliesto")
    text = "\n".join(f"{system}|{code}" for system, code in found)
    assert len(found) == 924
    assert sha256(text.encode()).hexdigest() == APPLIES_TO


@pytest.mark.parametrize("name", NEED_ALL_OF_ANOTHERS)
def test_a_set_of_a_system_that_is_not_all_here_is_not_guessed(terminology, name):
    with pytest.raises((NotTold, Unknown)):
        expanded(terminology, name)


def test_every_set_that_is_bound_there_is_accounted_for(terminology):
    types = load_element_types()
    assert {"Observation", "Device", "CarePlan"} <= load().validator.resource_types
    bound = {
        element.value_set.removeprefix(VALUE_SET)
        for name in ("Observation", "Observation.component", "Device", "Device.deviceName",
                     "Device.udiCarrier", "CarePlan", "CarePlan.activity",
                     "CarePlan.activity.detail")
        for element in types.elements(name).values()
        if element.value_set.startswith(VALUE_SET)
    }  # fmt: skip
    assert bound
    assert bound <= {*PUBLISHED, "languages", *NEED_ALL_OF_ANOTHERS}


def test_every_set_that_these_types_are_bound_to_is_here(terminology):
    for name in ("body-site", "device-type", "care-plan-category", "languages"):
        assert terminology.resource("ValueSet", VALUE_SET + name)["version"] == "4.0.1"
