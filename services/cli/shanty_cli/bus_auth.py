"""`shanty bus-auth`: keys for everybody who logs in to the bus, and what the server has to know of them.

`--format conf` writes accounts and public keys for the server's configuration, and a seed for each user; with
`--format jwt` it is an operator's configuration, and a credentials file for each user. What a user may do is the
same: it comes from the team (`shanty_protocol.zones`).

A folder belongs to one team. Doing it again keeps every key and changes only the files whose content changes; the
folder's `bus-auth.json` says what was written, so that nothing else in it is ever touched. It knows public keys only.
Seeds need not stay in the folder: whoever is given a new key is told, everybody else keeps what they have.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from rich.table import Table
from rich.text import Text

from shanty_cli.accounts_jwt import Keys, Mint, Signed, credentials, read_claims, sign_all
from shanty_cli.exits import DONE, UsageError
from shanty_cli.key_folder import RECORD, File, Form, Record, write
from shanty_cli.output import Output
from shanty_cli.text import at, plural
from shanty_protocol.errors import ProtocolError
from shanty_protocol.ids import checked_lane
from shanty_protocol.zones import ADMIN, SYSTEM_ACCOUNT, Access, Zones, inbox_of, zones_of
from shanty_runtime.bus import BusSettings
from shanty_runtime.bus.login import read_login
from shanty_runtime.bus.nkeys import Key
from shanty_runtime.errors import ConfigError
from shanty_runtime.team import Team

State = Literal["new", "kept", "renewed", "rotated", "revoked", "removed"]

IGNORED = "# Written by `shanty bus-auth`: secrets stay out of version control.\n/creds/\n/keys/\n"
A_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
RELOAD = "reload every server, with `nats-server --signal reload=PID` or SIGHUP"
RESOLVER_HEAD = (
    "# Accounts of a team, signed by its operator. Written by `shanty bus-auth`, which overwrites it; not secret.",
    "# Put it beside the server's configuration and name it there:  include resolver.conf",
    "#",
    "# This resolver knows the accounts below and no others; a reload reads them again. Where accounts are pushed to",
    "# running servers, keep operator and system_account and put in place of the rest:",
    "#",
    "#     resolver { type: full, dir: ./resolver }",
    "#",
    "# Copy accounts/*.jwt into that directory before the first start; later the user admin sends what has changed,",
    "# one JWT a message, to $SYS.REQ.CLAIMS.UPDATE.",
    "",
)

_records = msgspec.json.Decoder(Record)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. What is left out stays as it was in that folder."""

    team: Team
    folder: Path
    form: Form | None = None
    lanes: tuple[str, ...] = ()
    rotate: tuple[str, ...] = ()
    revoke: tuple[str, ...] = ()
    expires_in: str = ""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """One user of the bus, and what has become of it."""

    principal: str
    account: str
    key: str = ""
    """Public."""
    file: str = ""
    """What it logs in with; empty where that is not in the folder."""
    inbox_prefix: str = ""
    state: State
    expires_at: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the command did, and what is left to do."""

    team: str
    form: Form
    lanes: tuple[str, ...]
    principals: tuple[Principal, ...]
    written: tuple[str, ...]
    removed: tuple[str, ...]
    next: tuple[str, ...]


class Staff:
    """The users' keys: who keeps theirs, who gets a new one, and whose is taken back."""

    def __init__(self, order: Order, before: Record, accounts: Mapping[str, str], now_s: int) -> None:
        self.accounts = accounts
        """The account of each principal."""
        self.states: dict[str, State] = {}
        self.public: dict[str, str] = {}
        self.seeds: dict[str, Key] = {}
        """Those that are in the folder."""
        self.taken_back = {account: dict(keys) for account, keys in before.revoked_keys.items()}
        for principal, account in accounts.items():
            old = before.keys.get(principal, "")
            is_out = principal in (*before.revoked, *order.revoke) and principal not in order.rotate
            if old and not is_out and principal not in order.rotate:
                self.states[principal] = "kept"
                self.public[principal] = old
                self._find(order.folder, before.form, principal)
                continue
            if old:
                self.taken_back.setdefault(account, {})[old] = now_s
            self.states[principal] = "revoked" if is_out else "rotated" if old else "new"
            if not is_out:
                self.seeds[principal] = Key.new("user")
                self.public[principal] = self.seeds[principal].public

    def _find(self, folder: Path, form: Form, principal: str) -> None:
        path = folder / file_of(form, principal)
        if not path.exists():
            return
        key = read_login(_login_settings(form, path)).key
        if key is None or key.public != self.public[principal]:
            raise ConfigError(
                f"{path} does not hold the key {principal} is known by, {self.public[principal]}: put that back, or "
                f"give it a new one with --rotate {principal}"
            )
        self.seeds[principal] = key


def bus_auth(order: Order, out: Output, now_s: int | None = None) -> int:
    report = write_keys(order, int(time.time()) if now_s is None else now_s)
    if out.json:
        out.data(report)
        return DONE
    out.show(_table(report.principals))
    changes = [("wrote", report.written), ("removed", report.removed)]
    done = [f"{verb} {plural(len(files), 'file')}" for verb, files in changes if files]
    out.say(f"{' and '.join(done) or 'nothing has changed'} in {order.folder}")
    for step in report.next:
        out.say(f"next: {step}")
    return DONE


def write_keys(order: Order, now_s: int) -> Report:
    """Bring the folder up to date. Raises before anything is written where something is wrong."""
    before = _read_record(order)
    zones = _zones(order.team, before.lanes)
    accounts = {zone.principal: zone.account for zone in zones.all} | {ADMIN: SYSTEM_ACCOUNT}
    _check_names(order, accounts)
    staff = Staff(order, before, accounts, now_s)
    if before.form == "conf":
        files = _conf_files(zones, staff)
        expires: dict[str, int] = {}
    else:
        files, expires = _jwt_files(order, before, zones, staff, now_s)
    after = msgspec.structs.replace(
        before,
        keys=dict(sorted(staff.public.items())),
        revoked=tuple(sorted(name for name, state in staff.states.items() if state == "revoked")),
        revoked_keys=staff.taken_back if before.form == "jwt" else {},
    )
    # A user whose seed has gone elsewhere still has its place here.
    places = tuple(sorted({*files, *(file_of(before.form, name) for name in staff.public)}))
    written, removed = write(order.folder, files, before, msgspec.structs.replace(after, files=places))
    principals = _principals(before, staff, written, expires)
    return Report(
        team=before.team,
        form=before.form,
        lanes=before.lanes,
        principals=principals,
        written=written,
        removed=removed,
        next=tuple(_next_steps(order.folder, before, principals, written)),
    )


def file_of(form: Form, principal: str) -> str:
    """Where a user's secret is."""
    return f"keys/{principal}.nk" if form == "conf" else f"creds/{principal}.creds"


# What was asked for


def _read_record(order: Order) -> Record:
    """What is known of the folder, with what the order changes about it."""
    path = order.folder / RECORD
    try:
        known = _records.decode(path.read_bytes())
    except FileNotFoundError:
        known = Record(team=order.team.name, form=order.form or "conf")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise UsageError(f"{path} is not what `shanty bus-auth` writes ({error}): name another folder") from error
    if known.team != order.team.name:
        raise UsageError(
            f"{order.folder} has the keys of team {known.team}: name another folder for {order.team.name}"
        )
    if order.form not in (None, known.form):
        raise UsageError(f"{order.folder} has keys in the format {known.form}: name another folder for {order.form}")
    lifetime_s = _seconds(order.expires_in) if order.expires_in else known.lifetime_s
    if lifetime_s and known.form == "conf":
        raise UsageError("--expires-in is for --format jwt: an nkey in the server's configuration does not expire")
    return msgspec.structs.replace(known, lanes=_lanes(order.lanes) or known.lanes, lifetime_s=lifetime_s)


def _seconds(text: str) -> int:
    if text == "never":
        return 0
    if (found := re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)) is None:
        raise UsageError(f"--expires-in is {text!r}, and must be a number with s, m, h or d, such as 90d, or never")
    return int(found[1]) * UNITS_S[found[2]]


def _lanes(lanes: Sequence[str]) -> tuple[str, ...]:
    try:
        return tuple(checked_lane(lane) for lane in lanes)
    except ProtocolError as error:
        raise UsageError(f"--lanes: {error}") from error


def _zones(team: Team, lanes: Sequence[str]) -> Zones:
    specialists = {each.name: Access(memory=each.memory, leads=team.leads_of(each.name)) for each in team.specialists}
    try:
        starts_on = team.mapped.get(team.name, ())
        return zones_of(team.name, team.lead.name, specialists, lanes, starts_on=starts_on, fenced=team.fenced)
    except ValueError as error:  # the protocol's own errors are ValueErrors too
        raise UsageError(str(error)) from error


def _check_names(order: Order, known: Iterable[str]) -> None:
    for name in (*order.rotate, *order.revoke):
        if name not in known:
            raise UsageError(f"team {order.team.name} has nobody called {name}; there are {', '.join(known)}")
    if both := set(order.rotate) & set(order.revoke):
        raise UsageError(f"{', '.join(sorted(both))} cannot be given a new key and be revoked at once")


# What the server and its users get


def _conf_files(zones: Zones, staff: Staff) -> dict[str, File]:
    from shanty_cli.accounts_conf import render

    files = {"accounts.conf": File(text=render(zones, staff.public)), ".gitignore": File(text=IGNORED)}
    for principal, key in staff.seeds.items():
        files[file_of("conf", principal)] = File(text=f"{key.seed}\n", secret=True)
    return files


def _jwt_files(
    order: Order, record: Record, zones: Zones, staff: Staff, now_s: int
) -> tuple[dict[str, File], dict[str, int]]:
    names = dict.fromkeys((zones.control, *(guest.account for guest in zones.guests), SYSTEM_ACCOUNT))
    keys = Keys(
        operator=_signing_key(order.folder, record, "operator", "operator"),
        accounts={name: _signing_key(order.folder, record, name, "account") for name in names},
        signing={
            zone.principal: _signing_key(order.folder, record, f"for-{zone.principal}", "account")
            for zone in zones.all
        },
        users=staff.seeds,
        revoked=staff.taken_back,
    )
    signed = sign_all(zones, keys, Mint(now_s, _earlier(order.folder, record)), lifetime_s=record.lifetime_s)
    files = {
        "resolver.conf": File(text=_resolver_conf(keys, signed)),
        "operator.jwt": File(text=f"{signed.operator}\n"),
        ".gitignore": File(text=IGNORED),
        "keys/operator.nk": File(text=f"{keys.operator.seed}\n", secret=True),
    }
    for name, key in keys.accounts.items():
        files[f"keys/{name}.nk"] = File(text=f"{key.seed}\n", secret=True)
        files[f"accounts/{key.public}.jwt"] = File(text=signed.accounts[name])
    for principal, key in keys.signing.items():
        files[f"keys/for-{principal}.nk"] = File(text=f"{key.seed}\n", secret=True)
    for principal, token in signed.users.items():
        files[file_of("jwt", principal)] = File(text=credentials(token, staff.seeds[principal]), secret=True)
    return files, {principal: read_claims(token).get("exp", 0) for principal, token in signed.users.items()}


def _signing_key(folder: Path, record: Record, name: str, kind: Literal["operator", "account"]) -> Key:
    """A key that signs for others: the one there is, or a new one."""
    path = folder / f"keys/{name}.nk"
    if not path.exists():
        if f"keys/{name}.nk" in record.files:
            raise ConfigError(f"{path} is not there any more, and nothing can be signed without it: put it back")
        return Key.new(kind)
    key = Key.from_seed(_text(path), str(path))
    if key.kind != kind:
        raise ConfigError(f"{path} holds the seed of an {key.kind}, and should hold that of an {kind}")
    return key


def _earlier(folder: Path, record: Record) -> list[str]:
    """Everything that was signed before, wherever it is."""
    paths = (folder / name for name in record.files)
    return [token for path in paths if path.exists() for token in A_JWT.findall(_text(path))]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _resolver_conf(keys: Keys, signed: Signed) -> str:
    lines = [
        *RESOLVER_HEAD,
        f"operator: {signed.operator}",
        f"system_account: {signed.system_account}",
        "resolver: MEMORY",
        "resolver_preload {",
    ]
    for name, token in signed.accounts.items():
        lines += [f"  # {name}", f"  {keys.accounts[name].public}: {token}"]
    return "\n".join([*lines, "}", ""])


def _login_settings(form: Form, path: Path) -> BusSettings:
    return BusSettings(nkey_seed_file=str(path)) if form == "conf" else BusSettings(creds=str(path))


# What is said about it


def _principals(
    before: Record, staff: Staff, written: Sequence[str], expires: Mapping[str, int]
) -> tuple[Principal, ...]:
    found = []
    for principal, account in staff.accounts.items():
        file, state = file_of(before.form, principal), staff.states[principal]
        if state == "kept" and file in written:
            state = "renewed"
        found.append(
            Principal(
                principal=principal,
                account=account,
                key=staff.public.get(principal, ""),
                file=file if principal in staff.seeds else "",
                inbox_prefix=inbox_of(principal),
                state=state,
                expires_at=at(expires.get(principal, 0) * 1000),
            )
        )
    for principal in sorted(set(before.keys) - set(staff.accounts)):
        found.append(Principal(principal=principal, account="", state="removed"))
    return tuple(found)


def _next_steps(folder: Path, before: Record, principals: Sequence[Principal], written: Sequence[str]) -> list[str]:
    steps = []
    setting = "SHANTY_NATS_NKEY_SEED" if before.form == "conf" else "SHANTY_NATS_CREDS"
    conf = folder / ("accounts.conf" if before.form == "conf" else "resolver.conf")
    for each in principals:
        if each.state in ("rotated", "renewed"):
            steps.append(
                f"put {folder / each.file} in place of what {each.principal} has in {setting}; a service reads it at "
                "its next connect"
            )
    if not before.files:
        steps.append(
            f"put {conf} beside the server's configuration, add `include {conf.name}` to that (a path is relative to "
            "it), and start the server or reload it"
        )
        steps.append(
            f"give each service its own file, and no other, in {setting}; specialists also get "
            "SHANTY_NATS_ZONE=agent. People with `shanty` get that of operators, `shanty init-bus` that of installer"
        )
    elif conf.name in written:
        steps.append(f"put {conf} in place of the one beside the server's configuration and {RELOAD}")
    for each in principals:
        if each.state in ("revoked", "removed") and before.files:
            steps.append(f"delete what {each.principal} logged in with wherever it was put")
    elsewhere = [each.principal for each in principals if each.key and not each.file]
    if elsewhere and before.form == "jwt":
        steps.append(
            f"the credentials of {', '.join(elsewhere)} are not in {folder} and stay as they are; --rotate makes new "
            "ones"
        )
    return steps


def _table(principals: Sequence[Principal]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("principal", "account", "logs in with", "answers under", "state", "until"):
        table.add_column(column, overflow="fold")
    for each in principals:
        cells = (each.principal, each.account, each.file, each.inbox_prefix, each.state, each.expires_at)
        table.add_row(*map(Text, cells))
    return table
