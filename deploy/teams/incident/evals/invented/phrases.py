"""What services say when they are well, and when they are not. Braces are filled in for each message."""

from __future__ import annotations

from collections.abc import Callable

from .world import World

THINGS = "basket item address label shipment price profile stock receipt voucher".split()
CALM = (
    "request {id} handled in {ms} ms",
    "processed {what} {id} for user {n}",
    "cache {hit} for key {what}:{n}",
    "job {id} finished, {n} rows",
    "session {id} opened from {ip}",
    "published event {what}.updated offset={n}",
    "fetched {n} records of {what}",
    "scheduled refresh of {what} done in {ms}ms",
    "GET /v1/{what}/{n} 200 {ms}ms",
    "synced {n} items, {n} unchanged",
)
GRUMBLES = (
    "slow query took {ms} ms on {what}",
    "retrying {what} lookup, attempt 2",
    "deprecated field {what} used by client {n}",
    "connection from {ip} closed by peer",
    "payload for {what} {n} larger than usual",
    "rate limit close for tenant {n}",
)
ALWAYS_WRONG = (
    "failed to parse optional header from client {ip}",
    "could not deliver webhook {id}: endpoint of tenant {n} returned 410",
    "thumbnail for {what} {n} missing, skipping",
    "unable to resolve avatar of user {n}: not found",
    "login failed for user {n}: wrong password",
)
CALL_FAILED = (
    "call to {host} failed: {why}",
    "request to {host} failed after {ms} ms: {why}",
    "upstream {dep} returned error: {why}",
    "{why} while contacting {dep}",
    "could not complete {what} {id}: {dep} {why}",
    "GET http://{host}/v1/{what}/{n} failed: {why}",
    "dependency={dep} {why} attempt=3",
)
CALL_FAILED_SILENT = (
    "could not complete {what} {id}",
    "{what} request {id} aborted, giving up",
    "error handling {what} {id}, status 500",
)
REFUSED = (
    "connection refused",
    "connect: connection refused",
    "i/o timeout",
    "timed out after {ms} ms",
    "no route to host",
    "connection reset by peer",
    "context deadline exceeded",
    "socket hang up",
    "read timeout",
    "service unavailable",
)
BROKEN = (
    "status 500",
    "unexpected status 500 Internal Server Error",
    "502 bad gateway",
    "internal error",
    "HTTP 500",
    "timed out after {ms} ms",
)
BUSY = (
    "status 503",
    "503 Service Unavailable",
    "timed out after {ms} ms",
    "429 too many requests",
    "read timeout",
    "deadline exceeded",
)
FAULTS = (
    (
        "unhandled exception in {what} handler",
        (
            'java.lang.NullPointerException: Cannot invoke "Tariff.code()" because "tariff" is null',
            "\tat com.acme.{what}.Handler.apply(Handler.java:{n})",
        ),
    ),
    ("failed to render {what} {id}: KeyError: 'discount_v2'", ()),
    ("TypeError: Cannot read properties of undefined (reading 'total') {id}", ()),
    ("panic recovered: runtime error: index out of range [{n}] with length 0", ()),
    ('could not deserialize {what} {id}: unexpected field "currencyMode"', ()),
    ('query failed: column "legacy_code" does not exist', ()),
    ("IllegalStateException: transition from NEW to SENT for {what} {id}", ()),
    ("assertion failed: stock of {what} {n} must not be negative", ()),
    (
        "Traceback (most recent call last)",
        ('  File "app/{what}.py", line {n}, in apply', "AttributeError: 'NoneType' object has no attribute 'rate'"),
    ),
    ("internal error while handling {what} {id}, returning 500", ()),
)
MISSET = (
    "timeout waiting for a connection from the pool (size 2)",
    "permission denied for {what} store: credential not accepted",
    "could not obtain connection: pool exhausted, max=2",
    "invalid value for setting {what}.timeout: 5ms",
    "request to {what} rejected: feature {what}-v2 not enabled for tenant {n}",
    'authentication failed for user "svc_{what}"',
    "no such host: {what}-new.internal",
    "worker limit 1 reached, {what} {id} not accepted",
    "payload of {n} bytes exceeds configured limit",
    "missing environment variable {what}_URL",
)
TOO_BUSY = (
    "worker pool exhausted, rejecting request {id}",
    "queue full: {n} pending, dropping {what} {id}",
    "too many requests, shedding load",
    "request {id} rejected: at capacity",
    "accept queue overflow, {n} waiting",
    "concurrency limit reached, {n} in flight",
)
GROWING = (
    "heap usage at {n}% after full GC",
    "GC pause of {ms} ms",
    "memory pressure: {n} MiB of limit used",
    "Full GC took {ms} ms, reclaimed 1%",
)
BURSTING = (
    "java.lang.OutOfMemoryError: Java heap space",
    "Out of memory: cannot allocate {n} bytes",
    "process killed (OOM), exit code 137",
    "fatal: runtime: out of memory",
    "container terminated: memory limit exceeded",
)
STARTING = ("service starting, version {n}.{n}", "listening on port 8080", "server started in {ms} ms, pid {n}")
DYING = (
    "database system is shutting down",
    "shutting down after I/O error",
    "no space left on device, entering read-only mode",
    "node lost quorum, stopping",
    "terminating: disk failure",
)
EXPIRED_AT_CALLER = (
    "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: https://{host}/",
    "SSL handshake with {host} failed: certificate has expired",
    "request to https://{host}/v2/{what} failed, reason: certificate has expired code=CERT_HAS_EXPIRED",
    (
        "PKIX path validation failed: CertPathValidatorException: validity check failed calling {host}: "
        "certificate expired"
    ),
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired ({dep})",
)
EXPIRED_AT_SERVER = (
    "TLS handshake error from {ip}:{n}: remote error: tls: bad certificate",
    "ssl alert received from {ip}: certificate expired",
)


def fill(world: World, phrase: str, peer: str) -> str:
    rng = world.rng
    host = world.services[peer].host if peer else ""
    values = {"{dep}": peer, "{host}": host}
    for key, value in values.items():
        phrase = phrase.replace(key, value)
    makers: dict[str, Callable[[], str]] = {
        "{id}": lambda: f"{rng.getrandbits(40):010x}",
        "{n}": lambda: str(rng.randint(1, 98)),
        "{ms}": lambda: str(rng.randint(3, 4000)),
        "{ip}": lambda: f"10.{rng.randint(0, 9)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}",
        "{what}": lambda: rng.choice(THINGS),
        "{hit}": lambda: rng.choice(["hit", "miss"]),
    }
    for key, make in makers.items():
        while key in phrase:
            phrase = phrase.replace(key, make(), 1)
    return phrase
