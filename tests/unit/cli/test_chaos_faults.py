from __future__ import annotations

from shanty_cli.chaos.faults import BEYOND_LEASE_S, plan

SERVICES = ("lead-1", "lead-2", "clerk-1", "clerk-2")
SERVERS = ("nats-1", "nats-2", "nats-3")


def test_the_same_seed_gives_the_same_faults_and_another_seed_others() -> None:
    assert plan(1, 30, SERVICES, SERVERS, 2) == plan(1, 30, SERVICES, SERVERS, 2)
    assert plan(1, 30, SERVICES, SERVERS, 2) != plan(2, 30, SERVICES, SERVERS, 2)


def test_there_are_as_many_kills_as_asked_for_and_pauses_and_partitions_besides() -> None:
    faults = plan(7, 200, SERVICES, SERVERS, 2)
    kinds = [fault.kind for fault in faults]
    assert kinds.count("kill") == 200
    assert kinds.count("pause") > 10
    assert kinds.count("partition") > 10


def test_everybody_is_killed_sooner_or_later() -> None:
    killed = {fault.target for fault in plan(3, 200, SERVICES, SERVERS, 2) if fault.kind == "kill"}
    assert killed == {*SERVICES, *SERVERS}


def test_a_pause_and_a_partition_outlast_the_lease_so_that_somebody_takes_over() -> None:
    absences = [fault for fault in plan(5, 200, SERVICES, SERVERS, 3) if fault.kind != "kill"]
    assert absences
    assert all(3 + BEYOND_LEASE_S[0] <= fault.lasts_s <= 3 + BEYOND_LEASE_S[1] for fault in absences)


def test_a_server_is_never_cut_off_because_services_are_cut_from_it() -> None:
    cut = {fault.target for fault in plan(5, 300, SERVICES, SERVERS, 2) if fault.kind == "partition"}
    assert cut
    assert cut <= set(SERVICES)
