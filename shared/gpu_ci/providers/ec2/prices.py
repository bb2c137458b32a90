"""What an hour of a machine costs, by AWS's own price list and spot market."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gpu_ci.errors import CloudError
from gpu_ci.model.machine import Price
from gpu_ci.providers.ec2.clients import BRIEF

if TYPE_CHECKING:
    from types_boto3_pricing.type_defs import FilterTypeDef

    from gpu_ci.providers import Candidate
    from gpu_ci.providers.ec2.clients import Clients

LOCAL_ZONE = re.compile(r"[a-z]+(?:-[a-z]+)+-\d+-.+\d[a-z]")


def price_of(clients: Clients, wanted: Candidate, now: float) -> Price | None:
    """Return the price of Linux on a shared host, None where AWS does not tell.

    On-demand by Price List GetProducts, spot by EC2 DescribeSpotPriceHistory. Without a zone
    it is that of the dearest one, since the machine may end up in any.
    """
    try:
        return clients.within_hurry(
            lambda: (
                _spot(clients, wanted, now) if wanted.market == "spot" else _listed(clients, wanted)
            ),
            f"tell the price of {wanted.type}",
        )
    except (CloudError, LookupError, TypeError, ValueError):
        return None  # a price is nice to know, and no reason to fail


def _listed(clients: Clients, wanted: Candidate) -> Price:
    in_local_zone = LOCAL_ZONE.fullmatch(wanted.zone)
    fields = {
        "instanceType": wanted.type,
        "regionCode": wanted.zone[:-1] if in_local_zone else wanted.region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    filters: list[FilterTypeDef] = [
        {"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in fields.items()
    ]
    answer = clients.ask(
        lambda: clients.pricing().get_products(ServiceCode="AmazonEC2", Filters=filters),
        f"tell the price of {wanted.type}",
        wanted.region,
        BRIEF,
    )
    return _from_list(json.loads(answer["PriceList"][0]))


def _from_list(product: Any) -> Price:
    (offer,) = product["terms"]["OnDemand"].values()
    (dimension,) = offer["priceDimensions"].values()
    day = product.get("publicationDate", offer.get("effectiveDate", ""))[:10]
    return _price(float(dimension["pricePerUnit"]["USD"]), f"AWS price list of {day}")


def _spot(clients: Clients, wanted: Candidate, now: float) -> Price:
    request: dict[str, Any] = {
        "InstanceTypes": [wanted.type],
        "ProductDescriptions": ["Linux/UNIX"],
        "StartTime": datetime.fromtimestamp(now, UTC),
    }
    if wanted.zone:
        request["AvailabilityZone"] = wanted.zone
    answer = clients.ask(
        lambda: clients.ec2(wanted.region).describe_spot_price_history(**request),
        f"tell the spot price of {wanted.type}",
        wanted.region,
        BRIEF,
    )
    history = sorted(answer["SpotPriceHistory"], key=lambda point: point["Timestamp"])
    newest = {point["AvailabilityZone"]: point for point in history}
    dearest = max(newest.values(), key=lambda point: float(point["SpotPrice"]))
    day = dearest["Timestamp"].date().isoformat()
    return _price(float(dearest["SpotPrice"]), f"EC2 spot price of {day}")


def _price(per_hour: float, source: str) -> Price:
    if per_hour <= 0:
        raise ValueError("AWS lists some capacity reservations at no price")
    return Price(per_hour=per_hour, source=source)
