"""`shanty`, with all its commands. Where each is read says shanty_cli/commands/__init__.py."""

from __future__ import annotations

from cyclopts import App

from shanty_cli.commands import bus, proofs, team
from shanty_cli.commands.files import files
from shanty_cli.commands.inbox import inbox
from shanty_cli.commands.runs import runs
from shanty_cli.commands.say import say

app = App(
    name="shanty",
    help="Runs teams of agents whose every step is a fact on NATS JetStream.",
    help_flags=["--help", "-h"],
)
app.command(team.lint)
app.command(team.run)
app.command(team.dev)
app.command(team.team_values, name="team-values")
app.command(bus.init_bus, name="init-bus")
app.command(bus.bus_auth, name="bus-auth")
app.command(bus.doctor)
app.command(bus.specialists)
app.command(proofs.demo)
app.command(proofs.chaos)
app.command(runs)
app.command(say)
app.command(inbox)
app.command(files)
# By name: these are imported when they are asked for.
COMMANDS = "shanty_cli.commands"
app.command(f"{COMMANDS}.memory:memory", name="memory", help="Look at documents that outlive runs, and mend them.")
app.command(f"{COMMANDS}.dead:dead", name="dead", help="Look at dead letters; retry or drop them.")
app.command(f"{COMMANDS}.verify:verify", name="verify", help="Audit a run from its journals alone.")
app.command(
    f"{COMMANDS}.triggers:triggers", name="triggers", help="What starts runs of a team by itself: look at it, try it."
)
runs.command(f"{COMMANDS}.archive:archive", name="archive", help="Write runs to files, and take them off the bus.")
