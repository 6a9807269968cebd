"""FHIR JSON in and out; decimals keep their digits.

A resource is a plain ``dict``: numbers with a fraction or exponent are `Decimal`, so
that ``79.50`` comes back as ``79.50``. https://hl7.org/fhir/R4/json.html
"""

from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from fhir_server.errors import MalformedResource

Resource = dict[str, Any]

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


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
    value = parse(body)
    if not isinstance(value, dict):
        raise MalformedResource("the body is not a JSON object")
    if not isinstance(value.get("resourceType"), str):
        raise MalformedResource("the body names no resourceType")
    return value


def format(value: Any) -> bytes:  # noqa: A001 - `resource_json.format`, beside `parse`
    """Compact JSON; `msgspec.Raw` parts are spliced in as they are."""
    return _encoder.encode(value)


def format_sorted(value: Any) -> bytes:
    """JSON with the keys of every object in order: equal values give equal bytes."""
    return _sorting_encoder.encode(value)


_sorting_encoder = msgspec.json.Encoder(decimal_format="number", order="sorted")
