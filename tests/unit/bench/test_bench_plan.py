import itertools

from bench import fill
from bench.declared import declared, missing
from bench.loads import LOADS
from bench.own import larger_against_smaller
from bench.readings import HIGH_GLUCOSE, RARE_IMPRESSION, Population, observation, taken
from bench.result import Comparison, Row

STATEMENT = {
    "rest": [
        {
            "mode": "server",
            "interaction": [{"code": "transaction"}],
            "searchParam": [{"name": "_id"}],
            "resource": [
                {
                    "type": "Observation",
                    "interaction": [{"code": "read"}, {"code": "search-type"}],
                    "searchParam": [{"name": "patient", "type": "reference"}],
                    "searchInclude": ["*"],
                    "operation": [{"name": "lastn"}],
                }
            ],
        },
        {"mode": "client", "interaction": [{"code": "batch"}]},
    ]
}


def test_what_a_server_declares_is_said_in_words():
    assert declared(STATEMENT) == {
        "transaction",
        "Observation.read",
        "Observation.search-type",
        "Observation?_id",
        "Observation?patient",
        "Observation+*",
        "Observation+Observation:patient",
        "Observation$lastn",
    }


def test_a_load_lacks_what_is_not_declared():
    words = declared(STATEMENT)
    assert missing(("Observation.read", "batch"), words) == ("batch",)


def test_no_two_loads_have_the_same_name():
    names = [load.name for load in LOADS]
    assert len(names) == len(set(names))


def test_a_store_is_filled_in_the_order_of_time():
    population = Population(500)
    end = fill.size(population)
    versions = [fill.version(n, population) for n in range(1, end + 1)]
    assert [version.sequence for version in versions] == list(range(1, end + 1))
    assert len({version.key for version in versions}) == end
    stamps = [version.last_updated for version in versions]
    assert stamps == sorted(stamps)


def test_a_patient_has_as_many_readings_in_a_large_population():
    for readings in (10_000, 1_000_000):
        population = Population(readings)
        assert readings / population.patients == 200


def test_readings_of_a_patient_have_different_times():
    population = Population(10_000)
    times = [taken(n, population) for n in range(3, 10_000, population.patients)]
    assert len(set(times)) == len(times)


def test_what_is_searched_for_is_there_and_rare():
    population = Population(10_000)
    made = [observation(n, population) for n in range(10_000)]
    high = [m for m in made if m.get("valueQuantity", {}).get("value") == HIGH_GLUCOSE]
    rare = [m for m in made if m.get("valueString", "").startswith(RARE_IMPRESSION)]
    assert 10 < len(high) < 100
    assert 1 < len(rare) < 100


def row(readings, p50, load="search: patient, code, date, newest 20"):
    return Row("sqlite", readings, load, 1, 100.0, p50, p50, p50)


def test_a_large_store_is_held_against_the_smallest():
    small, large = larger_against_smaller([row(10_000, 2.0), row(1_000_000, 2.6)])
    assert small.comparisons == ()
    (compared,) = large.comparisons
    assert compared.ratio == 1.3
    assert compared.is_met


def test_an_aim_is_met_on_its_side():
    for ratio, is_ceiling in itertools.product((0.9, 1.1), (False, True)):
        compared = Comparison("it", ratio, 1.0, is_ceiling=is_ceiling)
        assert compared.is_met is ((ratio < 1) == is_ceiling)
    assert Comparison("it", 1.0).is_met is None
