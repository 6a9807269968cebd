"""Units of measure: UCUM codes read into canonical units, exactly.

https://ucum.org/ucum. A unit becomes a product of powers of base units and a rational
factor, so 1 g equals 1000 mg to the last digit. The mole is a base unit here, and so is
each arbitrary unit ([iU]): they compare only with themselves. What is not in the table,
or lives on a logarithmic scale, has no canonical form.
"""

import re
from collections.abc import Mapping
from decimal import Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

UCUM = "http://unitsofmeasure.org"

_CONTEXT = Context(prec=40, traps=[])
_MAX_LENGTH = 200
_MAX_EXPONENT = 40
_MAX_BITS = 4_000


class Unit(NamedTuple):
    """A unit in canonical terms: ``canonical = value * numerator / denominator + offset``.

    `code` names the product of base units, in one order for all units of its kind;
    "1" is a pure number.
    """

    code: str
    numerator: Decimal
    denominator: Decimal
    offset: Decimal

    def canonical(self, value: Decimal) -> Decimal:
        """`value` in canonical units: exact, or to 40 digits where it does not end."""
        if self.numerator != 1:
            value = _CONTEXT.multiply(value, self.numerator)
        if self.denominator != 1:
            value = _CONTEXT.divide(value, self.denominator)
        if self.offset:
            value = _CONTEXT.add(value, self.offset)
        return value


def parse_unit(code: str) -> Unit | None:
    """The unit that a UCUM code means; None for what is no UCUM code or not in the table."""
    return _parse_unit(code) if len(code) <= _MAX_LENGTH else None


@lru_cache(maxsize=4096)
def _parse_unit(code: str) -> Unit | None:
    scale = _SCALES.get(_ANNOTATION.sub("", code))
    if scale is not None:
        factor, offset = scale
        return _unit("K", factor, offset)
    try:
        term = _parse(code)
    except ValueError:
        return None
    return _unit(_format_powers(term.powers), term.factor, Fraction(0))


def _unit(code: str, factor: Fraction, offset: Fraction) -> Unit:
    return Unit(
        code,
        Decimal(factor.numerator),
        Decimal(factor.denominator),
        _CONTEXT.divide(Decimal(offset.numerator), Decimal(offset.denominator)),
    )


class _Term(NamedTuple):
    """A factor and the powers of base units it stands with."""

    factor: Fraction
    powers: Mapping[str, int]

    def times(self, other: "_Term", exponent: int = 1) -> "_Term":
        powers = dict(self.powers)
        for base, power in other.powers.items():
            powers[base] = powers.get(base, 0) + power * exponent
        factor = self.factor * other.factor**exponent
        if max(factor.numerator.bit_length(), factor.denominator.bit_length()) > _MAX_BITS:
            raise ValueError("a factor beyond all measure")
        return _Term(factor, powers)


_ONE = _Term(Fraction(1), {})

_ANNOTATION = re.compile(r"\{[ -z|~]*\}")
_TOKEN = re.compile(
    r"(?P<unit>(?:[^\s\0./(){}\[\]]|\[[^\s\0\[\]{}]*\])+)|(?P<operator>[./()])"
    rf"|(?P<annotation>{_ANNOTATION.pattern})"
)
_POWER = re.compile(r"(?P<atom>.*?)(?P<exponent>[+-]?[0-9]{1,2})?", re.DOTALL)


def _parse(code: str) -> _Term:
    """Read a code from left to right; `/` divides by the one component behind it."""
    tokens: list[str] = []
    position = 0
    while position < len(code):
        found = _TOKEN.match(code, position)
        if found is None:
            raise ValueError("not a UCUM code")
        position = found.end()
        if found.lastgroup != "annotation":
            tokens.append(found[0])
        elif not tokens or tokens[-1] in ("(", ".", "/"):
            # Alone it stands for 1; behind a unit it says nothing.
            tokens.append("1")
    if not tokens:
        raise ValueError("an empty unit")
    tokens.reverse()
    term = _parse_product(tokens, is_inner=False)
    if tokens:
        raise ValueError("a parenthesis too many")
    return term


def _parse_product(tokens: list[str], *, is_inner: bool) -> _Term:
    term = _ONE
    sign = 1
    if tokens and tokens[-1] == "/":
        tokens.pop()
        sign = -1
    while True:
        if not tokens:
            raise ValueError("a unit ends in an operator")
        found = tokens.pop()
        if found == "(":
            part = _parse_product(tokens, is_inner=True)
        elif found in (".", "/", ")"):
            raise ValueError("an operator without a unit")
        else:
            part = _component(found)
        term = term.times(part, sign)
        following = tokens.pop() if tokens else None
        if following is None or following == ")":
            if is_inner != (following == ")"):
                raise ValueError("parentheses do not match")
            return term
        if following not in (".", "/"):
            raise ValueError("two units without an operator")
        sign = 1 if following == "." else -1


def _component(text: str) -> _Term:
    if text.isascii() and text.isdigit():
        if int(text) == 0:
            raise ValueError("a unit of nothing")
        return _Term(Fraction(int(text)), {})
    found = _POWER.fullmatch(text)
    if found is None:
        raise ValueError("not a unit")
    exponent = int(found["exponent"] or 1)
    if abs(exponent) > _MAX_EXPONENT:
        raise ValueError("a power beyond all measure")
    return _ONE.times(_simple_unit(found["atom"]), exponent)


@lru_cache(maxsize=1024)
def _simple_unit(symbol: str) -> _Term:
    """The unit of that symbol: as it stands, else a metric one behind a prefix."""
    if symbol in _BASES or symbol in _ARBITRARY or symbol in _ARBITRARY_METRIC:
        return _Term(Fraction(1), {symbol: 1})
    definition = _METRIC.get(symbol) or _NON_METRIC.get(symbol)
    if definition is not None:
        factor, unit = definition
        return _Term(Fraction(factor), {}).times(_parse(unit))
    for length in (2, 1):
        prefix = _PREFIXES.get(symbol[:length])
        rest = symbol[length:]
        if prefix is not None and (rest in _BASES or rest in _METRIC or rest in _ARBITRARY_METRIC):
            return _Term(prefix, {}).times(_simple_unit(rest))
    raise ValueError("an unknown unit")


def _format_powers(powers: Mapping[str, int]) -> str:
    order = {base: n for n, base in enumerate(_BASES)}
    known = sorted((order.get(base, len(order)), base) for base, power in powers.items() if power)
    if not known:
        return "1"
    return ".".join(base if powers[base] == 1 else f"{base}{powers[base]}" for _, base in known)


_PREFIXES: Mapping[str, Fraction] = {
    symbol: Fraction(10) ** power
    for symbol, power in {
        "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1,
        "d": -1, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18,
        "z": -21, "y": -24,
    }.items()
} | {
    symbol: Fraction(1024) ** n for n, symbol in enumerate(("Ki", "Mi", "Gi", "Ti"), 1)
}  # fmt: skip

_BASES = ("m", "s", "g", "rad", "K", "C", "cd", "mol")

# Arbitrary units have no relation to any other: each is a base of its own.
_ARBITRARY_METRIC = (
    "[iU]", "[arb'U]", "[USP'U]", "[anti'Xa'U]", "[CFU]", "[FFU]", "[PFU]", "[BAU]",
    "[ELU]", "[EU]",
)  # fmt: skip
_ARBITRARY = (
    "[GPL'U]", "[MPL'U]", "[APL'U]", "[beth'U]", "[todd'U]", "[dye'U]", "[knk'U]", "[mclg'U]",
    "[tb'U]", "[CCID_50]", "[TCID_50]", "[EID_50]", "[Amb'a'1'U]", "[D'ag'U]", "[FEU]", "[Lf]",
    "[hp'_X]", "[HPF]", "[LPF]", "[pH]",
)  # fmt: skip

# Each unit in terms of those before it. Those of the first table take prefixes.
_METRIC: Mapping[str, tuple[str, str]] = {
    "[IU]": ("1", "[iU]"), "eq": ("1", "mol"), "osm": ("1", "mol"), "kat": ("1", "mol/s"),
    "U": ("1/60", "umol/s"),
    "Hz": ("1", "s-1"), "Bq": ("1", "s-1"), "Ci": ("37000000000", "Bq"),
    "N": ("1", "kg.m/s2"), "dyn": ("1", "g.cm/s2"), "Pa": ("1", "N/m2"),
    "J": ("1", "N.m"), "W": ("1", "J/s"), "erg": ("1", "dyn.cm"), "eV": ("1.602176634e-19", "J"),
    "A": ("1", "C/s"), "V": ("1", "J/C"), "F": ("1", "C/V"), "Ohm": ("1", "V/A"),
    "S": ("1", "Ohm-1"), "Wb": ("1", "V.s"), "T": ("1", "Wb/m2"), "H": ("1", "Wb/A"),
    "sr": ("1", "rad2"), "lm": ("1", "cd.sr"), "lx": ("1", "lm/m2"),
    "Gy": ("1", "J/kg"), "Sv": ("1", "J/kg"), "RAD": ("100", "erg/g"), "REM": ("1", "RAD"),
    "l": ("1", "dm3"), "L": ("1", "dm3"), "ar": ("100", "m2"), "t": ("1000000", "g"),
    "bar": ("100000", "Pa"), "u": ("1.66053906660e-24", "g"), "st": ("1", "m3"),
    "P": ("1", "dyn.s/cm2"), "St": ("1", "cm2/s"), "pc": ("3.085678e16", "m"),
    "m[H2O]": ("9.80665", "kPa"), "m[Hg]": ("133.3220", "kPa"), "g%": ("1", "g/dL"),
    "cal": ("4.184", "J"), "cal_th": ("4.184", "J"), "cal_IT": ("4.1868", "J"),
    "bit": ("1", "1"), "By": ("8", "bit"), "Bd": ("1", "s-1"),
    "gf": ("9.80665", "g.m/s2"),
}  # fmt: skip
_NON_METRIC: Mapping[str, tuple[str, str]] = {
    "10*": ("10", "1"), "10^": ("10", "1"),
    "%": ("0.01", "1"), "[ppth]": ("0.001", "1"), "[ppm]": ("1e-6", "1"), "[ppb]": ("1e-9", "1"),
    "[pptr]": ("1e-12", "1"), "[pi]": ("3.1415926535897932384626433832795028841971", "1"),
    "min": ("60", "s"), "h": ("60", "min"), "d": ("24", "h"), "wk": ("7", "d"),
    "a_j": ("365.25", "d"), "a_t": ("365.24219", "d"), "a_g": ("365.2425", "d"),
    "a": ("365.25", "d"), "mo_j": ("30.4375", "d"), "mo_g": ("30.436875", "d"),
    "mo_s": ("29.53059", "d"), "mo": ("30.4375", "d"),
    "deg": ("0.0174532925199432957692369076848861271344287", "rad"),
    "'": ("1/60", "deg"), "''": ("1/60", "'"), "gon": ("0.9", "deg"),
    "[in_i]": ("2.54", "cm"), "[ft_i]": ("12", "[in_i]"), "[yd_i]": ("3", "[ft_i]"),
    "[mi_i]": ("5280", "[ft_i]"), "[nmi_i]": ("1852", "m"), "[mil_i]": ("0.001", "[in_i]"),
    "[kn_i]": ("1", "[nmi_i]/h"), "[sin_i]": ("1", "[in_i]2"), "[sft_i]": ("1", "[ft_i]2"),
    "[cin_i]": ("1", "[in_i]3"), "[cft_i]": ("1", "[ft_i]3"), "[acr_br]": ("4046.856422", "m2"),
    "[gr]": ("64.79891", "mg"), "[lb_av]": ("7000", "[gr]"), "[oz_av]": ("1/16", "[lb_av]"),
    "[dr_av]": ("1/16", "[oz_av]"), "[ston_av]": ("2000", "[lb_av]"),
    "[stone_av]": ("14", "[lb_av]"),
    "[oz_tr]": ("480", "[gr]"), "[lb_ap]": ("5760", "[gr]"), "[oz_ap]": ("480", "[gr]"),
    "[lbf_av]": ("4.4482216152605", "N"), "[psi]": ("1", "[lbf_av]/[in_i]2"),
    "[gal_us]": ("231", "[in_i]3"), "[qt_us]": ("1/4", "[gal_us]"), "[pt_us]": ("1/2", "[qt_us]"),
    "[cup_us]": ("1/2", "[pt_us]"), "[foz_us]": ("1/16", "[pt_us]"),
    "[tbs_us]": ("1/2", "[foz_us]"),
    "[tsp_us]": ("1/3", "[tbs_us]"), "[tsp_m]": ("5", "mL"), "[tbs_m]": ("15", "mL"),
    "[foz_m]": ("30", "mL"), "[cup_m]": ("240", "mL"), "[drp]": ("0.05", "mL"),
    "atm": ("101325", "Pa"), "[in_i'H2O]": ("0.0254", "m[H2O]"), "[in_i'Hg]": ("0.0254", "m[Hg]"),
    "[Cal]": ("1", "kcal_th"), "[HP]": ("745.6998715822702", "W"), "[Btu]": ("1055.05585262", "J"),
    "[diop]": ("1", "m-1"), "[PRU]": ("1", "mm[Hg].s/mL"), "[wood'U]": ("1", "mm[Hg].min/L"),
    "[Ch]": ("1/3", "mm"), "[mesh_i]": ("1", "[in_i]-1"), "[c]": ("299792458", "m/s"),
    "[g]": ("9.80665", "m/s2"), "Ao": ("0.1", "nm"), "AU": ("149597.870691", "Mm"),
    "[hnsf'U]": ("1", "1"), "[S]": ("1e-13", "s"), "[MET]": ("3.5", "mL/min/kg"),
    "[degR]": ("5/9", "K"),
}  # fmt: skip
# Scales with a zero of their own stand alone: no prefix, no product.
_SCALES: Mapping[str, tuple[Fraction, Fraction]] = {
    "Cel": (Fraction(1), Fraction("273.15")),
    "[degF]": (Fraction(5, 9), Fraction("459.67") * Fraction(5, 9)),
    "[degRe]": (Fraction(5, 4), Fraction("273.15")),
}
