"""An object that says one thing twice is refused, with the path of the key."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core import doubled_keys, resource_json
from fhir_server.errors import MalformedResource

REFUSED = [
    ('{"a":1,"a":2}', "a"),
    ('{"resourceType":"Patient","id":"1","id":"1"}', "Patient.id"),
    ('{"resourceType":"Patient","name":[{},{"given" : ["x"], "given":["y"]}]}',
     "Patient.name[1].given"),
    ('{"a" :1,"b":1,"b":2}', "b"),
    ('{"a":1,"\\u0061":2}', "a"),
    ('{"x":"\\u003a","b":1,"b":2}', "b"),
    ('{"x\\\\":1,"b":":","b":2}', "b"),
    ('[{"a":{"a":1,"a":1}}]', "[0].a.a"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path"), REFUSED)
def test_a_doubled_key_is_refused_with_its_path(text, path):
    with pytest.raises(MalformedResource) as refused:
        resource_json.parse_incoming(text.encode())
    assert refused.value.issues[0].expression == path


def test_a_key_that_is_no_name_is_not_repeated():
    with pytest.raises(MalformedResource) as refused:
        resource_json.parse_incoming(b'{"a":{"Anna Ivanova":1,"Anna Ivanova":2}}')
    assert refused.value.issues[0].expression == "a"


KEYS = st.text(st.sampled_from('ab":\\ ,{é\n'), max_size=4)
VALUES = st.recursive(
    st.text(st.sampled_from('ab":\\ ,{é\n'), max_size=6) | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : "), (",\n", "\t:")])


@given(VALUES, SEPARATORS, st.booleans())
def test_what_has_no_doubled_key_is_read_as_ever(value, separators, is_ascii):
    text = json.dumps(value, separators=separators, ensure_ascii=is_ascii)
    assert resource_json.parse_incoming(text.encode()) == value


@given(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=4), SEPARATORS, st.booleans())
def test_no_doubled_key_is_missed(pairs, separators, is_ascii):
    pairs.append((pairs[0][0], 1))

    def dump(value):
        return json.dumps(value, separators=separators, ensure_ascii=is_ascii)

    members = (f"{dump(key)}{separators[1]}{dump(value)}" for key, value in pairs)
    text = ("{" + separators[0].join(members) + "}").encode()
    assert doubled_keys.find(text) is not None
    with pytest.raises(MalformedResource):
        resource_json.parse_incoming(text)


def test_digits_without_end_are_no_reason_to_wait():
    text = b'{"a":1,"a":' + b"9" * 4_000 + b"}"
    with pytest.raises(MalformedResource):
        resource_json.parse_incoming(text)
