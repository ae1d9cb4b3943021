"""Excerpts in the notations of programs everybody runs."""

# ruff: noqa: E501 - the excerpts are lines as the programs write them

from __future__ import annotations

from deploy.teams.incident.analysis.lexicon import DEBUG, ERROR, FATAL, INFO, WARN, symptoms
from deploy.teams.incident.analysis.mentions import Mentions
from deploy.teams.incident.analysis.mining import LogMiner, LogReport
from deploy.teams.incident.analysis.records import Record, RecordReader
from deploy.teams.incident.analysis.times import written


def read(text: str, service: str = "svc", year: int = 2024) -> list[Record]:
    reader = RecordReader(service, year)
    records = [reader.feed(number, line) for number, line in enumerate(text.strip("\n").split("\n"), 1)]
    return [record for record in [*records, reader.flush()] if record is not None]


def mined(path: str, text: str, year: int = 2024) -> LogReport:
    miner = LogMiner(path, year=year)
    for number, line in enumerate(text.strip("\n").split("\n"), 1):
        miner.add(number, line)
    return miner.report()


NGINX_ACCESS = """
203.0.113.9 - - [10/Oct/2024:13:55:36 +0000] "GET /api/items/17?page=2 HTTP/1.1" 200 2326 "-" "curl/8.5.0" rt=0.012
203.0.113.9 - - [10/Oct/2024:13:55:37 +0000] "POST /api/orders HTTP/1.1" 502 157 "https://shop.example/" "Mozilla/5.0 (X11)" rt=3.001
198.51.100.4 - alice [10/Oct/2024:13:55:38 +0000] "GET /api/items/99 HTTP/2.0" 404 12 "-" "-" rt=0.002
"""

NGINX_ERROR = """
2024/10/10 13:55:37 [error] 29#29: *4021 connect() failed (111: Connection refused) while connecting to upstream, client: 203.0.113.9, server: shop.example, request: "POST /api/orders HTTP/1.1", upstream: "http://orders:8080/api/orders", host: "shop.example"
2024/10/10 13:55:39 [warn] 29#29: *4022 an upstream response is buffered to a temporary file /var/cache/nginx/proxy_temp/1/00/0000000001
2024/10/10 13:55:41 [notice] 1#1: signal process started
"""

SSHD = """
Oct 10 13:55:36 bastion sshd[4721]: Failed password for invalid user admin from 203.0.113.50 port 51234 ssh2
Oct 10 13:55:38 bastion sshd[4721]: Connection closed by invalid user admin 203.0.113.50 port 51234 [preauth]
Oct 10 13:55:40 bastion sshd[4723]: Accepted publickey for deploy from 198.51.100.7 port 40022 ssh2: ED25519 SHA256:k3fE
Oct 10 13:55:41 bastion sshd[4725]: Failed password for invalid user oracle from 203.0.113.51 port 51300 ssh2
Oct 10 13:55:43 bastion sshd[4725]: error: maximum authentication attempts exceeded for root from 203.0.113.51 port 51300 ssh2 [preauth]
"""

LOG4J = """
2024-10-10 13:55:36,118 INFO  [http-nio-8080-exec-3] c.acme.orders.OrderService - Order 8812 accepted in 41 ms
2024-10-10 13:55:36,402 ERROR [http-nio-8080-exec-7] c.acme.orders.OrderService - Cannot price order 8813
java.lang.IllegalStateException: no tariff for zone 4
\tat com.acme.orders.Pricing.price(Pricing.java:88)
\tat com.acme.orders.OrderService.accept(OrderService.java:41)
Caused by: java.lang.NullPointerException: Cannot invoke "Zone.tariff()" because "zone" is null
\tat com.acme.orders.Zones.find(Zones.java:19)
\t... 31 more
2024-10-10 13:55:37,001 WARN  [pool-2-thread-1] c.z.h.pool.HikariPool - HikariPool-1 - Thread starvation or clock leap detected
"""

GC_LOG = """
[2024-10-10T13:55:36.114+0000][info][gc] GC(812) Pause Young (Normal) (G1 Evacuation Pause) 812M->640M(1024M) 12.204ms
[2024-10-10T13:55:40.201+0000][info][gc] GC(813) Pause Full (G1 Compaction Pause) 1019M->1011M(1024M) 1480.551ms
[2024-10-10T13:55:43.002+0000][warning][gc,alloc] GC(814) To-space exhausted
"""

POSTGRES = """
2024-10-10 13:55:36.301 UTC [211] app@shop LOG:  duration: 1210.331 ms  statement: SELECT * FROM orders WHERE id = 4
2024-10-10 13:55:37.020 UTC [212] app@shop ERROR:  column "legacy_code" does not exist at character 8
2024-10-10 13:55:37.020 UTC [212] app@shop STATEMENT:  SELECT legacy_code FROM orders
2024-10-10 13:55:39.700 UTC [1] LOG:  database system is shut down
2024-10-10 13:55:41.000 UTC [219] app@shop FATAL:  remaining connection slots are reserved for superuser connections
"""

MYSQL = """
2024-10-10T13:55:36.881021Z 0 [System] [MY-010931] [Server] /usr/sbin/mysqld: ready for connections. Version: '8.0.36'  port: 3306
2024-10-10T13:55:38.104551Z 12 [Warning] [MY-010055] [Server] IP address '10.2.0.9' could not be resolved: Name or service not known
2024-10-10T13:55:40.553102Z 14 [ERROR] [MY-012592] [InnoDB] Operating system error number 28 in a file operation.
241010 13:55:41 [Note] Access denied for user 'app'@'10.2.0.9' (using password: YES)
"""

APACHE_ERROR = """
[Thu Oct 10 13:55:36.118311 2024] [proxy:error] [pid 218:tid 1399] (111)Connection refused: AH00957: HTTP: attempt to connect to 10.0.0.9:8080 (orders) failed
[Thu Oct 10 13:55:36.118390 2024] [mpm_event:notice] [pid 1:tid 1] AH00489: Apache/2.4.58 configured -- resuming normal operations
"""


def test_nginx_access_lines_give_status_level_and_latency() -> None:
    records = read(NGINX_ACCESS)

    assert [(r.status, r.level, r.latency_ms) for r in records] == [
        (200, INFO, 12.0),
        (502, ERROR, 3001.0),
        (404, WARN, 2.0),
    ]
    assert written(records[0].at or 0) == "2024-10-10T13:55:36Z"
    assert records[0].template == "GET /api/items/<*> -> 200"


def test_nginx_error_lines_give_their_level_and_the_upstream() -> None:
    records = read(NGINX_ERROR)

    assert [record.level for record in records] == [ERROR, WARN, INFO]
    assert "connection" in symptoms(records[0].message)
    assert Mentions(["orders"]).find(records[0].message, "edge") == ("orders",)


def test_sshd_attempts_share_a_template_whatever_user_and_address() -> None:
    miner = LogMiner("auth.log", year=2024)
    for number, line in enumerate(SSHD.strip("\n").split("\n") * 20, 1):
        miner.add(number, line)
    report = miner.report()

    failed = [stats for stats in miner.services["auth"].stats() if "Failed password" in stats.text]
    assert [stats.count for stats in failed] == [40]
    assert report.at == "2024-10-10T13:55:30Z"
    assert report.services[0].errors == 20


def test_a_stack_trace_belongs_to_its_record_and_names_the_fault() -> None:
    records = read(LOG4J)

    assert [(record.line, record.level) for record in records] == [(1, INFO), (2, ERROR), (9, WARN)]
    assert "IllegalStateException" in records[1].message
    assert "Caused by: java.lang.NullPointerException" in records[1].message
    assert "fault" in symptoms(records[1].message)


def test_gc_lines_are_dated_and_a_full_pause_is_telling() -> None:
    records = read(GC_LOG)

    assert [record.level for record in records] == [INFO, INFO, WARN]
    assert "gc" in symptoms(records[1].message)
    assert "gc" not in symptoms(records[0].message)


def test_postgres_levels_are_told_apart() -> None:
    records = read(POSTGRES)

    assert [record.level for record in records] == [INFO, ERROR, INFO, INFO, FATAL]
    assert "crash" in symptoms(records[3].message)
    assert "fault" in symptoms(records[1].message)


def test_mysql_lines_of_both_notations_are_read() -> None:
    records = read(MYSQL)

    assert [record.level for record in records] == [INFO, WARN, ERROR, INFO]
    assert written(records[3].at or 0) == "2024-10-10T13:55:41Z"
    assert "restart" in symptoms(records[0].message)


def test_glog_letters_are_levels() -> None:
    records = read(
        "E1010 13:55:36.000001 7 main.go:3] giving up\nI1010 13:55:37.000001 7 main.go:4] error budget fine"
    )

    assert [record.level for record in records] == [ERROR, INFO]


def test_apache_error_lines_give_module_level() -> None:
    assert [record.level for record in read(APACHE_ERROR)] == [ERROR, INFO]


def test_json_lines_of_several_services_are_kept_apart() -> None:
    lines = [
        '{"@timestamp":"2024-10-10T13:55:36Z","level":"ERROR","message":"boom","service":"a","error":"connect ECONNREFUSED"}',
        '{"ts":1728568537.2,"lvl":"debug","msg":"fine","app":"b","duration_ms":12.5,"status":200}',
        '{"time":"2024-10-10T13:55:38Z","severity":"warning","text":"hm","log":{"level":"x"},"k8s":{"service":"c"}}',
        '{"broken json',
    ]
    records = read("\n".join(lines))

    assert [(record.service, record.level) for record in records] == [("a", ERROR), ("b", DEBUG), ("c", WARN)]
    assert "ECONNREFUSED" in records[0].message
    assert (records[1].status, records[1].latency_ms) == (200, 12.5)


def test_logfmt_gives_level_and_service() -> None:
    (record,) = read('ts=2024-10-10T13:55:36Z level=error svc=billing msg="charge failed" id=9')

    assert (record.service, record.level) == ("billing", ERROR)


def test_garbage_gives_records_and_no_error() -> None:
    garbage = [
        "\x00\x01\x02",
        "�" * 100,
        "x" * 1_000_000,
        "",
        "   ",
        "{",
        "[]",
        '{"a":' * 2000,
        '"GET" ',
        "2024-99-99 99:99:99 x",
    ]
    report = mined("logs/odd.log", "\n".join(garbage))

    assert report.lines == len(garbage)
    assert sum(service.lines for service in report.services) > 0


def test_an_empty_log_has_a_report() -> None:
    report = LogMiner("logs/empty.log").report()

    assert (report.lines, report.services) == (0, ())


def test_one_misread_moment_does_not_stretch_the_record() -> None:
    lines = [f"2024-10-10T13:{minute:02d}:00Z INFO tick" for minute in range(60)]
    lines.insert(30, "1999-01-01T00:00:00Z INFO tick")
    report = mined("logs/clock.log", "\n".join(lines))

    assert report.at == "2024-10-10T13:00:00Z"
