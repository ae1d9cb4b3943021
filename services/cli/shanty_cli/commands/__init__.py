"""The commands, as they are typed. Each reads its arguments and hands on; what it needs is imported when it is run,
so that `shanty --help` is there at once.

options    what every command takes
team       lint, run, dev, team-values
bus        init-bus, bus-auth, doctor, specialists
proofs     demo, chaos
runs       runs ls, show, journal, tail, cancel, budget
archive    runs archive
say        say
inbox      inbox ls, show, allow, deny, answer
files      files ls, get
memory     memory ls, show, history, search, release, restore
dead       dead ls, show, retry, drop
triggers   triggers ls, fire
verify     verify
"""
