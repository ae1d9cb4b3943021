"""Where an agent may fetch from: the rules of its front matter, and the addresses nobody may reach.

    egress: [docs.example.com, "*.example.org", "example.com:8443", "http://legacy.example.com"]

A rule is a host, with `*.` before it for every host beneath, a port where it is not the usual one, and `http://`
where https is not spoken. A rule never opens the way into a private network: what a name resolves to is checked
too, and only the operator can allow such an address, as `SHANTY_EGRESS_PRIVATE=host:port`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Literal

import msgspec

Scheme = Literal["http", "https"]

USUAL_PORTS: dict[Scheme, int] = {"http": 80, "https": 443}
BUS_PORTS = frozenset({4222, 4443, 6222, 7422, 8222})
"""Of NATS: never reachable for an agent, whoever allows it."""

_RULE = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>(?:\*\.)?[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10",  # carrier-grade NAT
        "168.63.129.16/32",  # the platform service of a public cloud
        "192.0.0.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "198.18.0.0/15",
        "2001::/23",  # Teredo and other transition addresses
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",
    )
)
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")


class EgressRule(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `egress`."""

    host: str
    """Lower-case, without `*.`; an IPv6 address has no brackets."""
    beneath: bool = False
    """Any host beneath `host`, and not `host` itself."""
    scheme: Scheme = "https"
    port: int = 443

    def allows(self, scheme: str, host: str, port: int) -> bool:
        fits = host.endswith(f".{self.host}") if self.beneath else host == self.host
        return fits and (scheme, port) == (self.scheme, self.port)

    def __str__(self) -> str:
        star = "*." if self.beneath else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{star}{host}:{self.port}"


def parse_rule(text: str) -> EgressRule:
    """Raises ValueError, which says what is wrong with it."""
    found = _RULE.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError("is not a host such as example.com, *.example.com or http://example.com:8080")
    scheme: Scheme = "http" if found["scheme"] == "http" else "https"
    port = int(found["port"]) if found["port"] else USUAL_PORTS[scheme]
    beneath = found["host"].startswith("*.")
    host = found["host"].removeprefix("*.").removeprefix("[").removesuffix("]").rstrip(".")
    if not 1 <= port <= 65535:
        raise ValueError(f"has the port {port}, which does not exist")
    if port in BUS_PORTS:
        raise ValueError(f"has the port {port}, which belongs to NATS and is never allowed")
    if problem := host_problem(host):
        raise ValueError(problem)
    if beneath and (len(host.split(".")) < 2 or is_address(host)):
        raise ValueError("allows too much: name a domain after `*.`, such as *.example.com")
    return EgressRule(host=host, beneath=beneath, scheme=scheme, port=port)


def host_problem(host: str) -> str:
    """Why a host cannot be fetched from; empty where it can be looked up."""
    if is_address(host):
        return ""
    labels = host.split(".")
    # As browsers do: a host that ends in a number is an address, and other ways to write one are refused.
    if _NUMBER.fullmatch(labels[-1]):
        return f"{host} is an address written in an unusual way"
    if not host or len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return f"{host[:80]!r} is not a host name"
    return ""


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet, whatever is wrapped in it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        # Embedded IPv4 (NAT64, 6to4, Teredo), unique local and link-local addresses are all outside of this.
        if ip not in _GLOBAL_V6:
            return False
    if not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    return not any(ip.version == network.version and ip in network for network in _NEVER)
