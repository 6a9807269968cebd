"""What a page ends at can be put into a link, whatever it was ordered by."""

import pytest

from fhir_server.core.search.cursor import NONCE_BYTES, PageState, decode, encode

SECRET, NONCE = b"s" * 32, bytes(NONCE_BYTES)


@pytest.mark.parametrize(
    "order", ["date", "-date", "_lastUpdated", "-_id", "code", "value-quantity", "status,-date"]
)
@pytest.mark.parametrize("scope", ["", "patient=p1&", "patient=p1&code=a&", "device=d1&"])
def test_every_order_has_pages_that_a_link_leads_to(driver, scope, order):
    driver.write(
        *(
            {
                "resourceType": "Observation",
                "id": f"o{n}",
                "status": "final",
                "code": {"coding": [{"code": "a"}]},
                "subject": {"reference": "Patient/p1"},
                "device": {"reference": "Device/d1"},
                "effectiveDateTime": f"2024-03-0{n}T10:00:00Z",
                "valueQuantity": {"value": n},
            }
            for n in range(1, 5)
        )
    )
    query = driver.query(f"Observation?{scope}_sort={order}&_count=3")
    page = driver.run(driver.store.search(query))
    state = PageState("Observation", (), page.next, page.as_of, 0)
    found = decode(encode(state, SECRET, NONCE), SECRET)
    assert found.cursor == page.next
    last = driver.run(driver.store.search(query._replace(after=found.cursor, as_of=found.as_of)))
    assert len({v.key for v in (*page.versions, *last.versions)}) == 4
