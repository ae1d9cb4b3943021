"""A team as a folder: read, checked as a whole, and turned into what the services run.

    team.yaml            name, goal, lead, specialists, limits
    agents/<name>.md     an agent with a model: front matter, then its prompt
    agents/<name>.py     an agent that is Python code: a docstring, and `async def handle(input, context)`
    tools.py             tools of this team, made with `shanty_runtime.tools.tool`
    rehearsal.py         a function for each agent, which plays it without a paid model
    schemas/*.json       JSON Schemas that agents refer to
    skills/<name>/       instructions that agents load when they need them
    evals/               not read here

`load_team` gives a `Team`, or raises a `TeamError` that lists every problem with its file, line and column. The
Python files of the folder are run by loading it: load folders you trust, as you would install a package.
"""

from shanty_runtime.errors import Problem, TeamError
from shanty_runtime.team.definition import AgentDefinition, Limits, Team
from shanty_runtime.team.load import load_team

__all__ = ["AgentDefinition", "Limits", "Problem", "Team", "TeamError", "load_team"]
