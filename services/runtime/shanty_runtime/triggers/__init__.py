"""Triggers: what starts a run of a team by itself, as `triggers:` of its team.yaml says.

    definition   what a trigger is                 schedule    the times of a schedule, and which were missed
    template     goals with {fields} in them       order       from a message, or a time, to what the lead is asked
    firing       the first entry of a run, once    watch       what a lead's replica does all day long

Nothing here remembers anything: whether a time was obeyed or a message used stands in the journals, at places that
follow from them, so that any number of replicas come to one run.
"""

from shanty_runtime.triggers.definition import CatchUp, Schedule, Trigger, subjects_of
from shanty_runtime.triggers.firing import Firing
from shanty_runtime.triggers.order import Message, Terms, Unusable
from shanty_runtime.triggers.watch import TriggerWatch

__all__ = ["CatchUp", "Firing", "Message", "Schedule", "Terms", "Trigger", "TriggerWatch", "Unusable", "subjects_of"]
