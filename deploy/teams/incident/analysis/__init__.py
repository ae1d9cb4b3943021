"""The algorithms behind the tools: pure functions over lines, counts and values. One idea a file.

times      reads a moment out of nearly any notation
records    lines of a log -> records: moment, level, service, message
templates  messages -> templates (Drain), after masking what varies
segments   piecewise constant levels in counts and in values
bursts     when a rate rose above its baseline, and by how much
lexicon    what the words of the field point at
mentions   which other services a message names
mining     one log, streamed once: templates, bursts, traffic, silence
tables     CSV and JSON files whose column names are not known in advance
series     metrics: steps, ramps, resets
changes    deploys, configuration changes, rollbacks
tickets    groups of similar tickets and their bursts
ranking    what the four specialists found -> ranked causes
memo       the ranked causes, written down for a person
"""
