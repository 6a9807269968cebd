"""Each kind of sinks looks at the commit order by itself; what is sent stays leased."""

from fhir_server.store.protocol import DeliveryState, Routed


def to(sink, seen=None):
    def route(version):
        if seen is not None:
            seen.append(version.key.resource_id)
        return (Routed(sink, "all"),)

    return route


def put(driver, *ids):
    for resource_id in ids:
        driver.write({"resourceType": "Patient", "id": resource_id})


def told(driver, sink):
    found = driver.outbox.list(sink, tuple(DeliveryState), 100, 0)
    return [delivery.key.resource_id for delivery in found]


def test_a_process_that_knows_other_sinks_passes_over_nothing_of_theirs(driver):
    put(driver, "a", "b")
    outbox, other = driver.outbox, driver.open_another().outbox
    assert outbox.fan_out(to("registry"), 100, kind="registry") == 2
    put(driver, "c")
    assert other.fan_out(to("insurer"), 100, kind="insurer") == 3
    assert outbox.fan_out(to("registry"), 100, kind="registry") == 1
    assert told(driver, "registry") == told(driver, "insurer") == ["a", "b", "c"]
    assert other.fan_out(to("registry"), 100, kind="registry") == 0


def test_what_a_kind_has_nothing_to_do_with_is_not_looked_at(driver):
    put(driver, "a", "b", "c")
    seen = []
    route = to("late", seen)
    assert driver.outbox.fan_out(route, 1, kind="late", begin=1) == 1
    assert driver.outbox.fan_out(route, 100, kind="late") == 1
    assert seen == ["b", "c"]


def test_the_outbox_is_as_far_as_the_slowest_kind(driver):
    put(driver, "a", "b", "c")
    driver.outbox.fan_out(to("fast"), 100, kind="fast")
    driver.outbox.fan_out(to("slow"), 1, kind="slow")
    assert driver.run(driver.store.extent()) == (3, 1)
    assert driver.store.check().faults == ()


def test_a_renewed_lease_is_not_taken_over(driver):
    put(driver, "a")
    outbox = driver.outbox
    outbox.fan_out(to("s"), 100)
    (claimed,) = outbox.claim("s", "w", 5, 10)
    driver.clock.advance(4)
    outbox.renew([claimed], "somebody else", 5)
    outbox.renew([claimed], "w", 5)
    driver.clock.advance(4)
    assert outbox.claim("s", "other", 5, 10) == ()
    driver.clock.advance(2)
    assert [each.delivery_id for each in outbox.claim("s", "other", 5, 10)] == [claimed.delivery_id]


def test_the_first_that_is_open_and_the_newest_are_known(driver):
    outbox = driver.outbox
    assert outbox.newest() == 0
    assert outbox.oldest_open("s") is None
    put(driver, "a", "b", "c")
    outbox.fan_out(to("s"), 100)
    first, second, third = outbox.list("s", (), 100, 0)
    assert outbox.newest() == third.delivery_id
    assert outbox.oldest_open("s") == first
    outbox.acknowledge(outbox.claim("s", "w", 5, 1), "w", "ok")
    assert outbox.oldest_open("s") == second
    assert outbox.oldest_open("other") is None


def test_what_became_of_one_version_is_known(driver):
    put(driver, "a", "b")
    outbox = driver.outbox
    assert outbox.state_of("s", 1) is None
    outbox.fan_out(to("s"), 100)
    assert outbox.state_of("s", 1) is outbox.state_of("s", 2) is DeliveryState.QUEUED
    claimed = outbox.claim("s", "w", 5, 1)
    assert outbox.state_of("s", 1) is DeliveryState.SENT
    outbox.reject(claimed, "w", "no")
    assert outbox.state_of("s", 1) is DeliveryState.REJECTED
    assert outbox.state_of("other", 1) is outbox.state_of("s", 3) is None
