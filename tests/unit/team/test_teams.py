from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shanty_runtime.errors import ConfigError
from shanty_runtime.models.base import Message, ModelRequest
from shanty_runtime.models.rehearsal import Turn, call
from shanty_runtime.team import AgentDefinition, Limits, Problem, TeamError, load_team
from shanty_runtime.team.importing import PREFIX
from shanty_runtime.tools.files import WORKSPACE_TOOLS
from shanty_runtime.tools.mcp_server import McpServer
from shanty_runtime.tools.skills import Skill

Write = Callable[[Mapping[str, str | bytes | None]], Path]

BUILT_IN = tuple(tool.name for tool in WORKSPACE_TOOLS)
TEAMS = Path(__file__).parents[3] / "deploy" / "teams"

# As `/agents` of Claude Code writes it.
CLAUDE_CODE_AGENT = """\
---
name: code-reviewer
description: "Use this agent after a chunk of code was written. Examples: <example>user: 'Add a retry'</example>"
tools: Glob, Grep, LS, Read, Edit
disallowedTools: Bash, Write
model: opus
color: pink
permissionMode: acceptEdits
maxTurns: 25
skills:
  - review
mcpServers:
  - github
hooks:
  PreToolUse:
    - matcher: "Bash"
      hooks: [{type: command, command: "./check.sh"}]
memory: project
---

You are a senior reviewer.

---

Read the diff first.
"""


def problems_of(folder: Path) -> list[str]:
    with pytest.raises(TeamError) as refused:
        load_team(folder)
    return [str(problem) for problem in refused.value.problems]


def a_turn() -> Turn:
    messages = (Message(role="user", content=({"type": "text", "text": "Go"},)),)
    return Turn(ModelRequest(agent="lead", system="", messages=messages, tools=()))


def test_a_team_is_what_its_files_say(write_team: Write) -> None:
    folder = write_team({})

    team = load_team(folder)

    assert (team.name, team.description, team.goal, team.model) == ("harbour", "", "Load the ship", "")
    assert team.folder == folder
    assert team.limits == Limits(max_turns=12)
    assert team.lead == AgentDefinition(
        name="lead",
        description="Decides who does what",
        role="lead",
        prompt="You lead the crew.",
        tools=(*BUILT_IN, "weigh"),
        specialists=("stowage", "price-check"),
    )
    assert team.agent("stowage") == AgentDefinition(
        name="stowage",
        description="Plans where cargo goes",
        role="specialist",
        prompt="You plan the cargo.\nHeavy things go low.",
        tools=("read_file", "weigh"),
        max_turns=7,
        output_schema={"type": "object", "properties": {"tonnes": {"type": "number"}}},
    )
    assert [agent.name for agent in team.specialists] == ["stowage", "price-check"]
    assert list(team.tools) == ["weigh"]


async def test_an_agent_that_is_code_has_its_docstring_schemas_and_handler(write_team: Write) -> None:
    agent = load_team(write_team({})).agent("price-check")

    assert (agent.description, agent.model, agent.prompt) == ("Prices a shipment.", "", "")
    assert agent.input_schema == {
        "title": "Shipment",
        "type": "object",
        "properties": {"tonnes": {"type": "integer"}},
        "required": ["tonnes"],
        "additionalProperties": False,
    }
    assert agent.output_schema is not None
    assert list(agent.output_schema["properties"]) == ["cents"]
    assert agent.handler is not None
    shipment = msgspec.convert({"tonnes": 2}, agent.handler.input_type)
    context: Any = None
    quote = await agent.handler.function(shipment, context)
    assert msgspec.to_builtins(quote) == {"cents": 500}


def test_a_file_of_claude_code_loads_unchanged(write_team: Write) -> None:
    folder = write_team(
        {
            "team.yaml": "apiVersion: shanty/v1\nname: review\nspecialists: [code-reviewer]\n",
            "agents/code-reviewer.md": CLAUDE_CODE_AGENT,
            "skills/review/SKILL.md": "---\nname: review\ndescription: Reviews\n---\nLook at the tests first.\n",
        }
    )

    agent = load_team(folder).agent("code-reviewer")

    assert agent.tools == ("list_files", "read_file", "edit_file", "search_files")
    assert (agent.model, agent.max_turns) == ("opus", 25)
    assert agent.prompt == "You are a senior reviewer.\n\n---\n\nRead the diff first."
    assert agent.not_honoured == ("color", "permissionMode", "mcpServers", "hooks", "memory")
    assert [skill.instructions for skill in agent.skills] == ["Look at the tests first."]


def test_mcp_servers_skills_and_egress_are_what_the_front_matter_says(write_team: Write) -> None:
    stowage = """\
---
description: Plans
mcpServers:
  hub:
    command: hub-server
    args: [stdio, "--read-only"]
    env: {HUB_TOKEN: "${HUB_TOKEN}", LEVEL: low}
    allow: [look, book]
    effect: {look: read}
    timeoutS: 2.5
  far: {type: http, url: "https://far.example/mcp", headers: {Authorization: "Bearer ${FAR}"}, allow: "*"}
skills: [knots]
egress: [Example.com, "*.example.org", "http://old.example.com:8080"]
---
Plan.
"""
    skill = "---\nname: knots\ndescription: Ties\nlicense: MIT\nmetadata: {by: me}\nallowed-tools: Read\n---\nTie.\n"
    folder = write_team({"agents/stowage.md": stowage, "skills/knots/SKILL.md": skill})

    agent = load_team(folder).agent("stowage")

    assert agent.mcp_servers == (
        McpServer(
            name="hub",
            command="hub-server",
            args=("stdio", "--read-only"),
            env={"HUB_TOKEN": "${HUB_TOKEN}", "LEVEL": "low"},
            allow=("look", "book"),
            effects={"look": "read"},
            timeout_s=2.5,
        ),
        McpServer(name="far", url="https://far.example/mcp", headers={"Authorization": "Bearer ${FAR}"}, allow=None),
    )
    assert agent.skills == (
        Skill(name="knots", description="Ties", instructions="Tie.", folder=folder / "skills" / "knots"),
    )
    assert [str(rule) for rule in agent.egress] == [
        "https://example.com:443",
        "https://*.example.org:443",
        "http://old.example.com:8080",
    ]
    assert agent.not_honoured == ()


def test_every_problem_is_reported_at_once_in_the_order_of_files_and_lines(write_team: Write) -> None:
    folder = write_team(
        {
            "team.yaml": "apiVersion: shanty/v1\nname: harbour\nspecialists: [stowage, price-check, cook]\ngaol: x\n",
            "agents/lead.md": "---\ndescription: Leads\neffort: max\n---\nLead.\n",
            "agents/stowage.md": "---\ndescription: Plans\nmodle: opus\ntools: [weihg]\n---\n",
            "rehearsal.py": "import nothing_like_this\n",
        }
    )

    with pytest.raises(TeamError) as refused:
        load_team(folder)

    places = [(problem.path, problem.line, problem.column) for problem in refused.value.problems]
    assert places == [
        ("team.yaml", 3, 37),
        ("team.yaml", 4, 1),
        ("agents/lead.md", 3, 9),
        ("agents/stowage.md", 3, 1),
        ("agents/stowage.md", 4, 9),
        ("agents/stowage.md", 6, 1),
        ("rehearsal.py", 1, 1),
    ]
    assert str(refused.value).splitlines()[0] == f"the team in {folder} has 7 problems:"
    assert str(refused.value).splitlines()[5] == (
        'agents/stowage.md:4:9: there is no tool "weihg"; did you mean weigh?, the tools are '
        f"{', '.join([*BUILT_IN, 'weigh'])}"
    )


def test_a_problem_reads_as_compilers_print_them() -> None:
    problem = Problem("team.yaml", 4, 15, 'maxTurns: expected an integer, got "ten"', "leave it out for 40")

    assert str(problem) == 'team.yaml:4:15: maxTurns: expected an integer, got "ten"; leave it out for 40'


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_places_in_front_matter_are_those_of_the_file(write_team: Write, ends: str, mark: str) -> None:
    text = "---\ndescription: é, 'quoted' and so on\n# a remark\n\ninput:\n  type: object\neffort: ü\n---\nPrompt\n"
    folder = write_team({"agents/lead.md": (mark + text.replace("\n", ends)).encode()})

    assert problems_of(folder) == [
        'agents/lead.md:7:9: effort: expected one of low, medium, high, got "ü"; leave it out for medium'
    ]


def test_a_prompt_has_plain_line_ends_whatever_the_file_has(write_team: Write) -> None:
    folder = write_team({"agents/lead.md": b"---\r\ndescription: x\r\n---\r\nOne.\r\nTwo.\r\n"})

    assert load_team(folder).lead.prompt == "One.\nTwo."


def test_all_tools_are_given_where_none_are_named_and_none_where_the_list_is_empty(write_team: Write) -> None:
    folder = write_team(
        {
            "agents/lead.md": "---\ndescription: x\ndisallowed_tools: [Write, edit_file]\n---\nLead.\n",
            "agents/stowage.md": "---\ndescription: x\ntools: []\n---\nPlan.\n",
        }
    )

    team = load_team(folder)

    assert team.lead.tools == ("list_files", "read_file", "search_files", "file_history", "weigh")
    assert team.agent("stowage").tools == ()


def test_tools_keep_the_order_of_the_team_and_not_of_the_list(write_team: Write) -> None:
    folder = write_team({"agents/stowage.md": "---\ndescription: x\ntools: weigh, Grep, read_file\n---\nPlan.\n"})

    assert load_team(folder).agent("stowage").tools == ("read_file", "search_files", "weigh")


def test_forbidding_a_tool_only_claude_code_has_changes_nothing(write_team: Write) -> None:
    folder = write_team({"agents/stowage.md": "---\ndescription: x\ndisallowedTools: Bash\n---\nPlan.\n"})

    assert load_team(folder).agent("stowage").tools == (*BUILT_IN, "weigh")


def test_dates_and_versions_stay_the_text_they_are_written_as(write_team: Write) -> None:
    folder = write_team(
        {"agents/lead.md": "---\ndescription: x\nmodel: 2026-02-28\ninput: {enum: [1.10, yes, 2026-01-01]}\n---\nL\n"}
    )

    lead = load_team(folder).lead

    assert (lead.model, lead.input_schema) == ("2026-02-28", {"enum": [1.1, "yes", "2026-01-01"]})


def test_an_alias_stands_for_what_it_names(write_team: Write) -> None:
    folder = write_team(
        {"agents/lead.md": "---\ndescription: x\ninput: &in {type: object}\noutput: *in\n---\nLead.\n"}
    )

    assert load_team(folder).lead.output_schema == {"type": "object"}


def test_a_schema_is_read_from_a_file(write_team: Write) -> None:
    folder = write_team(
        {
            "agents/lead.md": "---\ndescription: x\noutput: schemas/memo.json\n---\nLead.\n",
            "schemas/memo.json": '{\n\t"type": "object",\n\t"required": ["title"]\n}',
        }
    )

    assert load_team(folder).lead.output_schema == {"type": "object", "required": ["title"]}


def test_a_team_may_have_another_lead_and_a_model_of_its_own(write_team: Write) -> None:
    folder = write_team(
        {
            "team.yaml": "apiVersion: shanty/v1\nname: solo\nlead: stowage\nmodel: sonnet\ndescription: Alone\n",
            "agents/lead.md": None,
        }
    )

    team = load_team(folder)

    assert (team.lead.name, team.lead.role, team.specialists) == ("stowage", "lead", ())
    assert (team.model, team.description) == ("sonnet", "Alone")


def test_limits_are_accepted_in_both_spellings(write_team: Write) -> None:
    threads = "max_threads: 4, max_active_threads: 5"
    limits = f"{{maxTurns: 3, {threads}, maxDepth: 1, max_attempts: 2, delegation_deadline_s: 1.5}}"
    folder = write_team({"team.yaml": f"apiVersion: shanty/v1\nname: harbour\nlimits: {limits}\n"})

    assert load_team(folder).limits == Limits(
        max_turns=3, max_threads=4, max_active_threads=5, max_depth=1, max_attempts=2, delegation_deadline_s=1.5
    )


def test_an_agent_that_is_not_there_is_answered_with_those_that_are(write_team: Write) -> None:
    team = load_team(write_team({}))

    with pytest.raises(ConfigError, match="no agent 'stowag'; there are lead, stowage, price-check"):
        team.agent("stowag")


def test_an_agent_is_rehearsed_by_the_function_of_its_name(write_team: Write) -> None:
    team = load_team(write_team({}))

    assert team.rehearsal_for("lead")(a_turn()) == call("submit_result", status="ok")
    assert team.rehearsal_for("price-check")(a_turn()) == "nothing to say"


def test_a_missing_rehearsal_matters_only_when_it_is_asked_for(write_team: Write) -> None:
    team = load_team(write_team({}))

    with pytest.raises(ConfigError, match=r"no function for stowage; add `def stowage\(turn: Turn\) -> Move`"):
        team.rehearsal_for("stowage")


def test_a_name_imported_from_elsewhere_is_no_rehearsal(write_team: Write) -> None:
    team = load_team(write_team({"rehearsal.py": "from os.path import basename as lead\n"}))

    assert team.rehearsals == {}


@pytest.fixture
def compiled_files_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are wherever nobody says otherwise."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


@pytest.mark.usefixtures("compiled_files_are_cached")
async def test_a_changed_folder_is_loaded_as_it_is_now(write_team: Write) -> None:
    before = load_team(write_team({})).tools["weigh"]
    # The same size and, most likely, the same second: a cached compilation could not tell the files apart.
    after = load_team(write_team({"tariff/rates.py": "RATE_CENTS = 999\n"})).tools["weigh"]

    context: Any = None
    weights = [await tool(msgspec.convert({"label": "x"}, tool.arguments), context) for tool in (before, after)]
    assert weights == [250, 999]


@pytest.mark.usefixtures("compiled_files_are_cached")
def test_loading_writes_nothing_into_the_folder(write_team: Write) -> None:
    folder = write_team({})
    before = sorted(folder.rglob("*"))

    load_team(folder)

    assert sorted(folder.rglob("*")) == before


def test_a_relative_import_works_when_a_tool_is_called_too(write_team: Write) -> None:
    rehearsal = "def lead(turn):\n    from .tariff import rates\n    return str(rates.RATE_CENTS)\n"
    team = load_team(write_team({"rehearsal.py": rehearsal}))

    assert team.rehearsal_for("lead")(a_turn()) == "250"


def test_a_refused_folder_leaves_no_modules_behind(write_team: Write) -> None:
    before = {name for name in sys.modules if name.startswith(PREFIX)}

    problems_of(write_team({"rehearsal.py": "lead = \n"}))

    assert {name for name in sys.modules if name.startswith(PREFIX)} == before


def test_tools_may_be_written_in_another_module_of_the_folder(write_team: Write) -> None:
    tools = (write_team({}) / "tools.py").read_text()
    folder = write_team(
        {
            "tools.py": "from shanty_runtime.tools.files import read_file\n\nfrom .scales import weigh\n",
            "scales.py": tools,
        }
    )

    assert list(load_team(folder).tools) == ["weigh"]


def test_a_link_out_of_the_folder_is_not_followed(
    write_team: Write, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "lead.md"
    outside.write_text("---\ndescription: x\n---\nLead.\n")
    folder = write_team({"agents/lead.md": None})
    (folder / "agents" / "lead.md").symlink_to(outside)

    assert problems_of(folder)[0].startswith("team.yaml:1:1: agent lead has no file agents/lead.md")


def test_a_folder_mounted_through_links_inside_itself_is_read(write_team: Write) -> None:
    # As Kubernetes mounts a ConfigMap.
    folder = write_team({})
    os.rename(folder / "team.yaml", folder / "..2026_team.yaml")
    (folder / "team.yaml").symlink_to("..2026_team.yaml")

    assert load_team(folder).name == "harbour"


def test_a_folder_that_is_not_there_is_a_team_error(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "nowhere") == [
        f"team.yaml:1:1: there is no folder {tmp_path / 'nowhere'}; give the folder that holds team.yaml"
    ]


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in TEAMS.glob("*/team.yaml")), ids=lambda path: path.name
)
def test_a_team_we_ship_loads_and_can_be_rehearsed(folder: Path) -> None:
    team = load_team(folder)

    assert [agent.name for agent in team.agents if not (agent.handler or agent.name in team.rehearsals)] == []
