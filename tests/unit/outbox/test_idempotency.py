"""The key of a batch."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version
from fhir_server.outbox.idempotency import idempotency_key

versions = st.builds(
    lambda resource_id, version_id: Version(
        ResourceKey("Observation", resource_id), version_id, datetime(2024, 5, 1, tzinfo=UTC),
        "create", b"{}",
    ),
    st.text("ab1-.", min_size=1, max_size=4),
    st.integers(1, 20),
)  # fmt: skip
batches = st.lists(versions, min_size=1, max_size=5, unique_by=lambda v: (v.key, v.version_id))


@given(batches, st.randoms())
def test_the_order_of_a_batch_does_not_change_its_key(batch, random):
    shuffled = list(batch)
    random.shuffle(shuffled)
    assert idempotency_key("registry", batch) == idempotency_key("registry", shuffled)


@given(batches, batches)
def test_other_versions_have_another_key(one, other):
    def names(batch):
        return {(version.key, version.version_id) for version in batch}

    is_same = idempotency_key("registry", one) == idempotency_key("registry", other)
    assert is_same == (names(one) == names(other))


@given(batches)
def test_another_sink_has_another_key(batch):
    assert idempotency_key("registry", batch) != idempotency_key("insurer", batch)
