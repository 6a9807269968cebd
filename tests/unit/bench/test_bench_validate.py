from bench import validate
from bench.own import Plan, needs_stores


def test_what_is_measured_is_right_and_stands_beside_parsing():
    timings = dict(validate.measure(number=2))
    assert min(timings.values()) > 0
    rows = list(validate.measure_rows(number=2))
    assert [row.load for row in rows] == [
        "validate: parse and base",
        "validate: parse, base and profile",
    ]
    for row in rows:
        assert [c.aim for c in row.comparisons] == [validate.AIM, None, None]


def test_validation_alone_needs_no_stores():
    def plan(*only):
        return Plan((), (), None, 0, 0, 0, only, None)

    assert not needs_stores(plan("validate"))
    assert needs_stores(plan())
    assert needs_stores(plan("validate", "create"))
