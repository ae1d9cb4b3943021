"""`shanty chaos`: a team works while its processes are killed, paused and cut off, and an audit follows.

workload    the team that works, and run after run for it
faults      what is done to whom and when: all of it follows from a seed
gate        a service's way to the bus, which can be cut
nodes       the bus: one server, or three that form a cluster
storm       the processes, and the faults as they happen to them
ledgers     what effects and model calls left behind, outside the bus
audit       what the journals and the ledgers say when all is over
command     the command
"""
