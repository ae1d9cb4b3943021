"""Invented incidents: a small system, what goes wrong in it, and the files people would find afterwards.

Everything is drawn from one generator in one order: the same seed gives the same bytes.

incident   a world from a seed, and a world as files, with the truth about it
world      what is made up: services, their messages, their metrics, what was changed
phrases    what services say when they are well, and when they are not
system     which services there are, who calls whom, and what an ordinary day of theirs looks like
causes     the six causes, and what each does to the service and to its callers
decoys     what looks like a cause and is none
notations  how each log writes a line
logs       logs, line by line
metrics    metrics, in one of three shapes
changes    deploys, configuration changes, rollbacks
tickets    what customers write
tables     rows as CSV
"""
