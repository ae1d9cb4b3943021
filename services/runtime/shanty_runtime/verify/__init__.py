"""Auditing a run from its journals alone: whether what is stored can be what its threads have written.

No team, no model and no clock is needed, and no bus: `Auditor` takes stored entries one after the other, from a
stream or from an archive, and says which of them are wrong. It keeps what it has to know of each thread, and no
bodies, so that a run may be larger than the memory.

findings   what can be wrong, and the result of an audit
journals   one journal: its places without a gap, and its chain
books      one thread: what its entries say, against what those before them said
calls      the calls of a thread: who has asked for them, who agreed, what came back
auditor    all of a run: who wrote to whom, and what became of it
sources    where a run is audited from: the bus, or a file (`shanty_runtime.archive`)
"""

from shanty_runtime.archive import read_archive, write_archive
from shanty_runtime.verify.auditor import Auditor
from shanty_runtime.verify.findings import Audit, Finding, OpenDelegation
from shanty_runtime.verify.sources import audit_of_archive, audit_of_run

__all__ = [
    "Audit",
    "Auditor",
    "Finding",
    "OpenDelegation",
    "audit_of_archive",
    "audit_of_run",
    "read_archive",
    "write_archive",
]
