"""`make bench`: what a delegation costs, next to what NATS itself takes for the same, in one run on one machine.

(a) core request and reply, (b) a durable round trip over JetStream, (c) a delegation to a code-backed specialist
with both journals on: all with the same 1 KiB, at nats-server's default and at `sync_interval: always`. They take
turns, so that whatever else the machine does hits all of them; a ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import uvloop

from bench.cpu import CpuMeter
from bench.delegations import requester
from bench.figures import SYNCS, Block, Way, cpu_ratio, ratio, table
from bench.load import Operation, all_at_once, fan_out, one_by_one
from bench.peering import PEERS, Measured, Peer, environment, measure_peer
from bench.raw import STREAM, RawRequester, start_responder
from shanty_protocol.streams import entry_stream
from shanty_runtime.bus import Bus, EmbeddedServer
from shanty_runtime.bus.jetstream import manage

IN_FLIGHT = 256
SYNC_INTERVALS = {"always": "always", "default": "2m"}


class Amounts(msgspec.Struct, frozen=True):
    """How much is measured in a round."""

    rounds: int = 7
    one_by_one: int = 200
    fan_outs: int = 15
    each_always: int = 8
    each_default: int = 30

    def each(self, sync: str) -> int:
        return self.each_always if sync == "always" else self.each_default


QUICK = Amounts(rounds=2, one_by_one=60, fan_outs=5, each_always=2, each_default=8)


async def measure(operation: Operation, block: str, amounts: Amounts, sync: str, pids: dict[str, int]) -> Block:
    """One block of every load. The first operations are not counted: they open what is opened once."""
    await one_by_one(operation, f"{block}-warm", 20)
    result = Block(one_by_one_s=await one_by_one(operation, block, amounts.one_by_one))
    result.fan_out_s = await fan_out(operation, block, amounts.fan_outs)
    cpu = CpuMeter(pids)
    result.rate = await all_at_once(operation, block, IN_FLIGHT, amounts.each(sync))
    result.cpu_us = cpu.used_us(IN_FLIGHT * amounts.each(sync))
    return result


async def measure_at(sync: str, amounts: Amounts) -> dict[str, Way]:
    """All ways of asking on one server, in turns."""
    with tempfile.TemporaryDirectory(prefix="shanty-bench-") as folder:
        async with EmbeddedServer(store_dir=Path(folder), sync_interval=SYNC_INTERVALS[sync]) as server:
            raw = RawRequester(server.url)
            await raw.start()
            responder = start_responder(server.url)
            try:
                assert responder.stdout is not None
                await asyncio.to_thread(responder.stdout.readline)
                async with requester(server) as (side, bus, specialist_pid):
                    ours = {"requester": os.getpid(), "nats-server": server.pid}
                    answering = {"responder": responder.pid, **ours}
                    working = {"specialist": specialist_pid, **ours}
                    contenders: list[tuple[str, Operation, dict[str, int], str]] = [
                        ("core", raw.core, answering, ""),
                        ("jetstream", raw.durable, answering, STREAM),
                        ("delegation", side.delegate, working, entry_stream("0")),
                        ("delegation, 4 lanes", side.delegate_over_lanes, working, ""),
                    ]
                    ways = {name: Way(name=name, sync=sync) for name, *_ in contenders}
                    for turn in range(amounts.rounds):
                        # Every other round goes backwards, so that nobody always comes right after the same one.
                        for name, operation, pids, stream in contenders[:: 1 if turn % 2 == 0 else -1]:
                            before = await _stored(bus, stream)
                            way = ways[name]
                            way.rounds.append(await measure(operation, f"{_slug(name)}-{turn}", amounts, sync, pids))
                            after = await _stored(bus, stream)
                            if stream:
                                operations = (after[1] - before[1]) / 2
                                way.stored_bytes = (after[0] - before[0]) / operations
                            print(f"  {sync:8} round {turn + 1} of {amounts.rounds}: {name}", file=sys.stderr)
                    return ways
            finally:
                await raw.stop()
                responder.kill()
                responder.wait()


def _slug(name: str) -> str:
    """Each way has conversations of its own: a place in a journal is taken once."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)


async def _stored(bus: Bus, stream: str) -> tuple[int, int]:
    """Bytes and messages of a stream."""
    if not stream:
        return 0, 0
    state = (await manage(bus.connection, f"STREAM.INFO.{stream}"))["state"]
    return state["bytes"], state["messages"]


def ratios(measured: dict[str, dict[str, Way]]) -> dict[str, object]:
    """(c) over (b), under the names that are checked elsewhere."""

    def both(figure: str) -> dict[str, float]:
        return {sync: ratio(ways["delegation"], ways["jetstream"], figure) for sync, ways in measured.items()}

    always = measured.get("always", next(iter(measured.values())))
    fan_outs = both("fan_out_s")
    return {
        "p50_ratio": both("p50_s"),
        "throughput_ratio": both("rate"),
        "fanout20_ratio": max(fan_outs.values()),
        "fanout20_ratios": fan_outs,
        "lanes4_ratio": ratio(always["delegation, 4 lanes"], always["delegation"], "rate"),
        "cpu_ratio": {sync: cpu_ratio(ways["delegation"], ways["jetstream"]) for sync, ways in measured.items()},
    }


def against(ways: dict[str, Way], peer: Peer, measured: Measured) -> dict[str, object]:
    """A delegation over a peer: less is better for latency, more for throughput."""
    ours = ways["delegation"]
    return {
        "p50_ratio": round(ours.median("p50_s") / measured.p50_s, 3),
        "throughput_ratio": round(ours.median("rate") / measured.rate, 3),
        "sync": peer.sync,
        "p50_ms": round(measured.p50_s * 1e3, 3),
        "p99_ms": round(measured.p99_s * 1e3, 3),
        "per_second": round(measured.rate, 1),
    }


def report(measured: dict[str, dict[str, Way]], peers: dict[Peer, Measured]) -> dict[str, object]:
    """All that was found, as it goes into a file."""
    return {
        **ratios(measured),
        "peers": {
            peer.name: against(measured[peer.sync], peer, found)
            for peer, found in peers.items()
            if peer.sync in measured
        },
        "ways": [
            {
                "name": way.name,
                "sync": way.sync,
                "p50_ms": round(way.median("p50_s") * 1e3, 3),
                "p99_ms": round(way.median("p99_s") * 1e3, 3),
                "fanout20_ms": round(way.median("fan_out_s") * 1e3, 3),
                "per_second": round(way.median("rate"), 1),
                "cpu_us": way.cpu_us,
                "stored_bytes": round(way.stored_bytes, 1),
            }
            for ways in measured.values()
            for way in ways.values()
        ],
    }


def show(found: dict[str, object], measured: dict[str, dict[str, Way]], peers: dict[Peer, Measured]) -> None:
    rows = [way.row() for ways in measured.values() for way in ways.values()]
    rows += [
        ("", each.name, f"{one.p50_s * 1e3:.2f}", f"{one.p99_s * 1e3:.2f}", "-", f"{one.rate:,.0f}", "-", "-", "-")
        for each, one in peers.items()
    ]
    print(table(rows))
    print("\na delegation over a durable round trip of JetStream, in the same rounds")
    for name, value in found.items():
        if name not in ("ways", "peers"):
            print(f"  {name:20} {value}")
    if peers:
        print("\na delegation over")
        for name, one in msgspec.convert(found["peers"], dict[str, dict[str, object]]).items():
            at = one["sync"]
            print(f"  {name:12} p50 {one['p50_ratio']}, throughput {one['throughput_ratio']} (sync interval: {at})")


def plot(figures: Path) -> None:
    """A picture beside the figures, where matplotlib can be had."""
    python = environment("plot")
    if python is not None:
        script, picture = Path(__file__).parent / "plot.py", figures.with_suffix(".svg")
        subprocess.run([str(python), str(script), str(figures), str(picture)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--out", type=Path, help="write the figures to this file, as JSON, and a picture beside it")
    parser.add_argument("--quick", action="store_true", help="a short run: it shows that it works, not more")
    parser.add_argument("--sync", choices=SYNCS, help="only this setting")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--no-peers", action="store_true", help="without Celery and the others")
    parser.add_argument("--no-plot", action="store_true", help="without a picture")
    given = parser.parse_args()
    amounts = QUICK if given.quick else Amounts()
    if given.rounds:
        amounts = msgspec.structs.replace(amounts, rounds=given.rounds)
    # What has been loaded is no garbage: neither side is to pay for looking through it.
    gc.collect()
    gc.freeze()
    syncs = (given.sync,) if given.sync else SYNCS
    measured = {sync: uvloop.run(measure_at(sync, amounts)) for sync in syncs}
    peers: dict[Peer, Measured] = {}
    for peer in () if given.no_peers else PEERS:
        if (one := uvloop.run(measure_peer(peer))) is not None:
            peers[peer] = one
    found = report(measured, peers)
    show(found, measured, peers)
    if given.out:
        given.out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
        if not given.no_plot:
            plot(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
