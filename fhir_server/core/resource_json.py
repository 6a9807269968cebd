"""FHIR JSON in and out; decimals keep their digits.

A resource is a plain ``dict``: numbers with a fraction or exponent are `Decimal`, so
that ``79.50`` comes back as ``79.50``. https://hl7.org/fhir/R4/json.html
"""

from decimal import InvalidOperation
from typing import Any

import msgspec

from fhir_server.core import doubled_keys
from fhir_server.core.written_decimal import WrittenDecimal, read_decimal
from fhir_server.errors import Issue, MalformedResource

Resource = dict[str, Any]


def _spell(value: object) -> msgspec.Raw:
    if isinstance(value, WrittenDecimal):
        return msgspec.Raw(str(value).encode())
    raise TypeError(f"{type(value).__name__} is nothing that JSON can say")


_decoder = msgspec.json.Decoder(float_hook=read_decimal)
_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_spell)


def parse(body: bytes) -> Any:
    """Any JSON value.

    Raises:
        MalformedResource: not UTF-8, not JSON, nested or counting further than a parser goes.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedResource(f"the body is not JSON: {error}") from None
    except InvalidOperation:
        raise MalformedResource("the body has a number beyond what decimals hold") from None
    except RecursionError:
        raise MalformedResource("the body is nested too deeply") from None


def parse_resource(body: bytes) -> Resource:
    """A resource: a JSON object that names its `resourceType`.

    Raises:
        MalformedResource: anything else.
    """
    return _as_resource(parse(body))


def _as_resource(value: Any) -> Resource:
    if not isinstance(value, dict):
        raise MalformedResource("the body is not a JSON object")
    if not isinstance(value.get("resourceType"), str):
        raise MalformedResource("the body names no resourceType")
    return value


def parse_incoming(body: bytes) -> Any:
    """Any JSON value that somebody sent: `parse`, but no object has a key twice.

    Which of the two was meant nobody can say, and other parsers choose otherwise.

    Raises:
        MalformedResource: as `parse`, or for a key that stands twice, with its path.
    """
    value = parse(body)
    if doubled_keys.may_have(body, _encoder.encode(value)):
        try:
            found = doubled_keys.find(body)
        except RecursionError:
            raise MalformedResource("the body is nested too deeply") from None
        if found is not None:
            issue = Issue("structure", "this key stands twice in one object", found or None)
            raise MalformedResource(issues=(issue,))
    return value


def parse_incoming_resource(body: bytes) -> Resource:
    """A resource that somebody sent.

    Raises:
        MalformedResource: as `parse_incoming` and `parse_resource`.
    """
    return _as_resource(parse_incoming(body))


def format(value: Any) -> bytes:  # noqa: A001 - `resource_json.format`, beside `parse`
    """Compact JSON; `msgspec.Raw` parts are spliced in as they are."""
    return _encoder.encode(value)


def format_sorted(value: Any) -> bytes:
    """JSON with the keys of every object in order: equal values give equal bytes."""
    return _sorting_encoder.encode(value)


_sorting_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_spell, order="sorted")
