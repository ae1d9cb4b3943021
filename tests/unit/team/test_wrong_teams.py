from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from shanty_runtime.team import TeamError, load_team
from shanty_runtime.team.positions import MAX_FILE_BYTES

Write = Callable[[Mapping[str, str | bytes | None]], Path]

HEAD = "apiVersion: shanty/v1\nname: harbour\n"
PLAIN = "---\ndescription: Plans\n---\nPrompt\n"


class Wrong(msgspec.Struct, frozen=True, kw_only=True):
    """Changed files, and the one problem they make."""

    files: dict[str, str | bytes | None]
    at: str
    says: str
    hint: str


def team(says: str, hint: str, at: str, text: str) -> Wrong:
    return Wrong(files={"team.yaml": text}, at=f"team.yaml:{at}", says=says, hint=hint)


def agent(says: str, hint: str, at: str, text: str) -> Wrong:
    return Wrong(files={"agents/stowage.md": text}, at=f"agents/stowage.md:{at}", says=says, hint=hint)


def front(says: str, hint: str, at: str, *lines: str) -> Wrong:
    return agent(says, hint, at, "\n".join(["---", "description: Plans", *lines, "---", "Prompt", ""]))


def schema(says: str, hint: str, at: str, text: str) -> Wrong:
    stowage = "---\ndescription: Plans\noutput: schemas/plan.json\n---\nPrompt\n"
    files: dict[str, str | bytes | None] = {"agents/stowage.md": stowage, "schemas/plan.json": text}
    return Wrong(files=files, at=f"schemas/plan.json:{at}", says=says, hint=hint)


def mcp(says: str, hint: str, at: str, *lines: str) -> Wrong:
    return front(says, hint, at, "mcpServers:", *lines)


def skill(says: str, hint: str, at: str, *lines: str) -> Wrong:
    text = "\n".join(["---", *lines, "---", "Tie.", ""])
    return Wrong(files={"skills/knots/SKILL.md": text}, at=f"skills/knots/SKILL.md:{at}", says=says, hint=hint)


def python(path: str, says: str, hint: str, at: str, text: str) -> Wrong:
    return Wrong(files={path: text}, at=f"{path}:{at}", says=says, hint=hint)


CODE = '"""Prices."""\nimport msgspec\n\n\nclass Order(msgspec.Struct):\n    pieces: int\n\n\n'
WEIGH = '@tool(effect="read")\nasync def weigh(args: Crate, context: ToolContext) -> None:\n    "Weighs."\n'
TOOL = (
    "import msgspec\nfrom shanty_runtime.tools import ToolContext, tool\n\n\n"
    "class Crate(msgspec.Struct):\n    label: str\n\n\n"
)

KNOTS: dict[str, str | bytes | None] = {"skills/knots/SKILL.md": "---\nname: knots\ndescription: x\n---\nTie.\n"}

WRONG = {
    # team.yaml
    "no team.yaml": Wrong(
        files={"team.yaml": None, "team.yml": HEAD},
        at="team.yaml:1:1",
        says="the file is missing",
        hint="did you mean team.yml?",
    ),
    "team.yaml is empty": team("apiVersion is missing", "add `apiVersion: shanty/v1`", "1:1", "name: harbour\n"),
    "no name": team("name is missing", "add `name:`", "1:1", "apiVersion: shanty/v1\n"),
    "wrong version": team(
        'apiVersion: expected shanty/v1, got "shanty/v2"',
        "write `apiVersion: shanty/v1`",
        "1:13",
        "apiVersion: shanty/v2\nname: harbour\n",
    ),
    "unknown key": team(
        "unknown key specialist", "did you mean specialists?", "3:1", HEAD + "specialist: [stowage]\n"
    ),
    "unknown key in another dialect's casing": team(
        "unknown key api_version", "did you mean apiVersion?", "2:1", HEAD.replace("\n", "\napi_version: 1\n", 1)
    ),
    "unknown limit": team(
        "unknown key max_turn", "did you mean max_turns?", "4:3", HEAD + "limits:\n  max_turn: 3\n"
    ),
    "both spellings of a limit": team(
        "maxTurns and max_turns are the same setting",
        "keep one of them",
        "3:24",
        HEAD + "limits: {max_turns: 3, maxTurns: 3}\n",
    ),
    "text for a number": team(
        'maxTurns: expected an integer, got "ten"',
        "write a number from 1 to 10000",
        "4:13",
        HEAD + "limits:\n  maxTurns: ten\n",
    ),
    "a truth for a number": team(
        "max_depth: expected an integer, got true", "from 1 to 10", "3:21", HEAD + "limits: {max_depth: true}\n"
    ),
    "number out of range": team(
        "max_threads: expected an integer from 1 to 100000, got 0",
        "leave it out for 1000",
        "3:23",
        HEAD + "limits: {max_threads: 0}\n",
    ),
    "endless deadline": team(
        "delegation_deadline_s: expected more than 0 and at most 2592000 seconds, got 10000000.0",
        "leave it out for 1800",
        "3:33",
        HEAD + "limits: {delegation_deadline_s: 1e7}\n",
    ),
    "deadline with a unit": team(
        'delegation_deadline_s: expected a number of seconds, got "30m"',
        "without quotes and units",
        "3:33",
        HEAD + "limits: {delegation_deadline_s: 30m}\n",
    ),
    "limits as a list": team(
        "expected keys and values, got a list", "write `key: value` lines", "3:9", HEAD + "limits: [3]\n"
    ),
    "team.yaml is a list": team("expected keys and values, got a list", "write `key: value` lines", "1:1", "- a\n"),
    "goal is a number": team("goal: expected text, got 42", "put it in quotes", "3:7", HEAD + "goal: 42\n"),
    "goal is empty": team("goal: expected some text", "leave the key out", "3:7", HEAD + "goal: ' '\n"),
    "key given twice": team("name is given twice", "the first is in line 2", "3:1", HEAD + "name: port\n"),
    "name not an id": team(
        '"Old Harbour" is not a name of the form [a-z0-9-]+',
        "as in old-harbour",
        "2:7",
        "apiVersion: shanty/v1\nname: Old Harbour\n",
    ),
    "unclosed bracket": team(
        "not YAML: while parsing a flow sequence", "brackets", "4:5", HEAD + "specialists: [stowage\ngoal: x\n"
    ),
    "tab for indentation": team("not YAML: while scanning", "indents", "4:1", HEAD + "limits:\n\tmax_turns: 3\n"),
    "unquoted colon": team(
        "not YAML: mapping values are not allowed here", "put text that contains `: ` in quotes", "3:11",
        HEAD + "goal: Load: the ship\n",
    ),
    "half a character": team(
        "text with an escape for half a character", "the character itself", "3:7", HEAD + 'goal: "\\ud83d"\n'
    ),
    "two documents": team("not YAML: expected a single document", "one document", "3:1", HEAD + "---\na: 1\n"),
    "control character": team("character U+0007 is not allowed", "remove it", "3:8", HEAD + "goal: x\x07\n"),
    "tag that would construct": team(
        "tag !!python/object/apply:os.system is not allowed",
        "plain values without tags",
        "3:7",
        HEAD + "goal: !!python/object/apply:os.system [ls]\n",
    ),
    "alias bomb": team(
        "more than 20000 values",
        "make it smaller",
        "3:18",
        HEAD + "goal: [&a [x,x,x,x,x,x,x,x,x,x], &b [" + ",".join(["*a"] * 50) + "], &c ["
        + ",".join(["*b"] * 50) + "]]\n",
    ),
    "merge key": team("merge keys (<<) are not supported", "write the keys out", "3:1", HEAD + "<<: {goal: x}\n"),
    "undefined alias": team("undefined alias 'x'", "match", "3:7", HEAD + "goal: *x\n"),
    "nested without end": team("nested too deeply", "at most 100 levels", "1:1", HEAD + "goal: " + "[" * 1_000),
    "too large": team("has more than 1048576 bytes", "elsewhere", "1:1", HEAD + "#" * MAX_FILE_BYTES),
    "not UTF-8": Wrong(
        files={"team.yaml": b"\xef\xbb\xbf" + HEAD.encode() + "goal: Überfahrt ".encode() + b"\xff\n"},
        at="team.yaml:3:17",
        says="not UTF-8",
        hint="save the file as UTF-8",
    ),
    # who is in the team
    "specialists as text": team(
        'specialists: expected a list, got "stowage"', "[first, second]", "3:14", HEAD + "specialists: stowage\n"
    ),
    "a specialist that is a number": team(
        "specialists: expected text, got 7", "put it in quotes", "4:5", HEAD + "specialists:\n  - 7\n"
    ),
    "specialist without a file": team(
        "agent stowag has no file agents/stowag.md or agents/stowag.py",
        "did you mean stowage?",
        "3:15",
        HEAD + "specialists: [stowag]\n",
    ),
    "lead without a file": team(
        "agent captain has no file agents/captain.md", "there are lead, price_check, stowage", "3:7",
        HEAD + "lead: captain\n",
    ),
    "the usual lead without a file": Wrong(
        files={"agents/lead.md": None},
        at="team.yaml:1:1",
        says="agent lead has no file agents/lead.md",
        hint="there are price_check, stowage",
    ),
    "the lead is a specialist": team(
        "lead is the lead", "remove it from specialists", "3:15", HEAD + "specialists: [lead]\n"
    ),
    "one specialist twice": team(
        "stowage is listed twice", "the first is in line 4", "5:5", HEAD + "specialists:\n  - stowage\n  - stowage\n"
    ),
    "reserved name": team(
        "operators is reserved", "such as operators-agent", "3:15", HEAD + "specialists: [operators]\n"
    ),
    "name that leaves the folder": team(
        '"../../etc/passwd" is not a name', "lower-case letters", "3:15", HEAD + "specialists: [../../etc/passwd]\n"
    ),
    "two files for one agent": Wrong(
        files={"agents/stowage.py": CODE},
        at="agents/stowage.py:1:1",
        says="agent stowage also has the file agents/stowage.md",
        hint="keep one: .md for a model, .py for code",
    ),
    # front matter
    "no front matter": agent("no front matter", "a line ---", "1:1", "You plan.\n"),
    "front matter does not end": agent("the front matter does not end", "add a line ---", "1:1", "---\nname: x\n"),
    "no prompt": agent("the prompt is empty", "instructions", "4:1", "---\ndescription: Plans\n---\n\n"),
    "no description": agent("description is missing", "the lead reads it", "2:1", "---\nmodel: opus\n---\nPrompt\n"),
    "empty front matter": agent("description is missing", "the lead reads it", "1:1", "---\n---\nPrompt\n"),
    "misspelled setting": front("unknown key modle", "did you mean model?", "3:1", "modle: opus"),
    "another agent's name": front(
        'name: expected stowage, as the file is called, got "stowages"', "rename the file", "3:7", "name: stowages"
    ),
    "turns in words": front('maxTurns: expected an integer, got "ten"', "from 1 to 10000", "3:11", "maxTurns: ten"),
    "both spellings": front(
        "max_turns and maxTurns are the same setting", "keep one of them", "4:1", "maxTurns: 3", "max_turns: 3"
    ),
    "effort that does not exist": front(
        'effort: expected one of low, medium, high, got "hihg"', "did you mean high?", "3:9", "effort: hihg"
    ),
    "permission in another word": front(
        'permissions: expected one of allow, ask, deny, got "aks"',
        "did you mean ask?",
        "3:22",
        "permissions: {weigh: aks}",
    ),
    "permission of a tool that is not there": front(
        'permissions: there is no tool "wiegh"', "did you mean weigh?", "3:15", "permissions: {wiegh: ask}"
    ),
    "permission of a control tool": front(
        "submit_result is a control tool", "leave it out", "3:15", "permissions: {submit_result: ask}"
    ),
    "permission of all delegations at once": front(
        'delegate: expected specialists and words, got "ask"',
        "write delegate: {payer: ask}",
        "3:25",
        "permissions: {delegate: ask}",
    ),
    "permission of delegations to nobody": front(
        'permissions: there is no specialist "stowge"',
        "did you mean stowage?",
        "3:26",
        "permissions: {delegate: {stowge: ask}}",
    ),
    "permission of delegations in another word": front(
        'permissions: expected one of allow, ask, deny, got "aks"',
        "did you mean ask?",
        "3:35",
        "permissions: {delegate: {stowage: aks}}",
    ),
    "rule without a condition": front(
        "auto: allowIf has to say of an argument what holds",
        "write auto:",
        "3:29",
        "permissions: {weigh: {auto: {else: ask}}}",
    ),
    "rule that is a word": front(
        'permissions: expected one of allow, ask, deny, got "auto"',
        "write auto: {allowIf:",
        "3:22",
        "permissions: {weigh: auto}",
    ),
    "rule with an unknown key": front(
        "auto: unknown key alowIf",
        "did you mean allowIf?",
        "3:30",
        "permissions: {weigh: {auto: {alowIf: {label: {equals: a}}, allow_if: {label: {equals: a}}}}}",
    ),
    "rule about an argument that is not there": front(
        'weigh has no argument "lable"',
        "did you mean label?",
        "3:41",
        "permissions: {weigh: {auto: {allow_if: {lable: {equals: a}}}}}",
    ),
    "rule with an unknown comparison": front(
        "label: unknown comparison atmost",
        "did you mean atMost?",
        "3:49",
        "permissions: {weigh: {auto: {allow_if: {label: {atmost: 4}}}}}",
    ),
    "rule that compares with the wrong type": front(
        'at_most: expected a number, got "four"',
        "",
        "3:58",
        "permissions: {weigh: {auto: {allow_if: {label: {at_most: four}}}}}",
    ),
    "rule without a comparison": front(
        "label: expected a comparison, got 4",
        "write label: {equals: 4}",
        "3:48",
        "permissions: {weigh: {auto: {allow_if: {label: 4}}}}",
    ),
    "rule that ends in allowing": front(
        'else: expected one of ask, deny, got "allow"',
        "leave it out for ask",
        "3:68",
        "permissions: {weigh: {auto: {allow_if: {label: {equals: a}}, else: allow}}}",
    ),
    "permissions as a list": front(
        "permissions: expected tools and words, got a list", "write permissions:", "3:14", "permissions: [weigh]"
    ),
    "permission of the team's": team(
        'permissions: there is no tool "wiegh"', "did you mean weigh?", "3:15", HEAD + "permissions: {wiegh: ask}\n"
    ),
    "asking people in words": front(
        'askHuman: expected true or false, got "yes"', "without quotes", "3:11", 'askHuman: "yes"'
    ),
    "bad YAML further down": front("not YAML", "quotes", "4:9", "model: opus", "  effort: a: b"),
    "setting given twice": front("model is given twice", "line 3", "4:1", "model: opus", "model: haiku"),
    # tools
    "tool that does not exist": front(
        'there is no tool "read_fiel"', "did you mean read_file?", "3:16", "tools: [weigh, read_fiel]"
    ),
    "tool of Claude Code's that is not here": front(
        'there is no tool "Bash": Claude Code has it', "the tools are list_files", "3:14",
        "tools: Read, Bash",
    ),
    "control tool": front("delegate is a control tool", "leave it out", "4:5", "tools:", "  - delegate"),
    "forbidden tool misspelled": front(
        'there is no tool "write_fil"', "did you mean write_file?", "3:18", "disallowedTools: write_fil"
    ),
    "tools as a mapping": front("tools: expected a list, got a mapping", "[first, second]", "3:8", "tools: {a: b}"),
    "tools left blank": front("tools: expected a list, got nothing", "[first, second]", "3:1", "tools:"),
    # schemas
    "schema with an unknown type": front(
        'invalid JSON Schema: "strnig" is not a type', "did you mean string?", "6:15",
        "output:", "  properties:", "    berth:", "        type: strnig",
    ),
    "schema that is not an object's": front(
        'type must be object, got "array"', "a property of an object", "3:16", "output: {type: array}"
    ),
    "schema with a broken pattern": front(
        'invalid JSON Schema: "(" is not a "regex"', "json-schema.org", "5:18",
        "input:", "  properties:", "    a: {pattern: '('}",
    ),
    "schema that refers outside": front(
        '"https://example.org/x.json" is outside of this schema', "$defs", "3:32",
        "input: {properties: {a: {$ref: https://example.org/x.json}}}",
    ),
    "schema of a dialect that would be fetched": front(
        '"https://example.org/mine" is outside of this schema', "$defs", "3:18",
        "input: {$schema: https://example.org/mine}",
    ),
    "number that JSON cannot hold": front(
        ".nan is not a number JSON can hold", "finite", "3:16", "input: {const: .nan}"
    ),
    "schema that refers to nothing": front(
        "invalid JSON Schema: Pointer '/$defs/a' does not exist", "json-schema.org", "3:8",
        "input: {properties: {a: {$ref: '#/$defs/a'}}}",
    ),
    "schema that is a number": front(
        "input: expected a JSON Schema or the path of one, got 5", "schemas/input.json", "3:8", "input: 5"
    ),
    "missing schema file": Wrong(
        files={
            "agents/stowage.md": "---\ndescription: Plans\noutput: schemas/paln.json\n---\nPrompt\n",
            "schemas/plan.json": "{}",
        },
        at="agents/stowage.md:3:9",
        says='schema file "schemas/paln.json" is missing',
        hint="did you mean schemas/plan.json?",
    ),
    "schema file outside the folder": front(
        'schema file "../schemas/plan.json" is missing', "there are none", "3:9", "output: ../schemas/plan.json"
    ),
    "schema file that is not JSON": schema("not JSON: Expecting", "commas", "2:1", '{"type": "object",\n}'),
    "schema file with a key twice": schema("title is given twice", "strict JSON", "1:1", '{"title": 1, "title": 2}'),
    "schema file that is a list": schema("expected a JSON Schema, got a list", "write an object", "1:1", "[]"),
    "schema file with a wrong keyword": schema(
        'invalid JSON Schema: "3" is not of type "integer"', "json-schema.org", "3:46",
        '{\n  "properties": {\n    "berth": {"type": "string", "minLength": "3"}\n  }\n}',
    ),
    "schema file whose places cannot be told": schema(
        '"https://example.org/x" is outside of this schema', "$defs", "1:1",
        '{"title": "\\ud83d\\ude00", "properties": {"a": {"$ref": "https://example.org/x"}}}',
    ),
    # MCP servers, skills, egress
    "MCP servers as text": front(
        'mcpServers: expected a mapping, got "github"', "name: {command", "3:13", "mcpServers: github"
    ),
    "MCP server without allow": mcp("hub: allow is missing", 'allow: "*"', "4:3", "  hub: {command: x}"),
    "MCP server with an unknown key": mcp(
        "unknown key comand", "did you mean command?", "4:39", '  hub: {allow: "*", url: "https://x", comand: x}'
    ),
    "MCP server with neither command nor url": mcp(
        "hub has neither a command nor a url", "give `command` for a process", "4:3", '  hub: {allow: "*"}'
    ),
    "MCP server with both command and url": mcp(
        "hub has both a command and a url", "`url` for http", "4:3", '  hub: {allow: "*", command: x, url: "https://x"}'
    ),
    "MCP server of an older transport": mcp(
        'type: expected stdio or http, got "sse"', "write http", "4:27", '  hub: {allow: "*", type: sse, url: "https://x"}'
    ),
    "MCP server of the wrong type": mcp(
        "hub is of type http", "give `url` for http", "4:27", '  hub: {allow: "*", type: http, command: x}'
    ),
    "MCP server whose name is not one": mcp(
        '"Hub_1" is not a name for an MCP server', "tools are named after it", "4:3",
        '  Hub_1: {allow: "*", command: x}',
    ),
    "MCP server as a list item given twice": mcp(
        "the MCP server hub is given twice", "keep one", "5:5",
        '  - hub: {allow: "*", command: x}', '  - hub: {allow: "*", command: x}',
    ),
    "MCP server that is no mapping": mcp("expected keys and values, got 7", "key: value", "4:8", "  hub: 7"),
    "secret in the environment of an MCP server": mcp(
        "env.GITHUB_TOKEN: a secret must not be written here", "write ${NAME}", "7:25",
        "  hub:", '    allow: "*"', "    command: x", "    env: {GITHUB_TOKEN: ghp_abc}",
    ),
    "secret in a header of an MCP server": mcp(
        "headers.Authorization: a secret must not be written here", "set it in the environment", "8:22",
        "  hub:", '    allow: "*"', "    url: https://x", "    headers:", "      Authorization: Bearer abc",
    ),
    "number in the environment of an MCP server": mcp(
        "env.PORT: expected text, got 5", "put it in quotes", "4:45",
        '  hub: {allow: "*", command: x, env: {PORT: 5}}',
    ),
    "password in the URL of an MCP server": mcp(
        "url: has a user name or password in it", "by reference", "4:26", '  hub: {allow: "*", url: "https://a:b@x/"}'
    ),
    "URL of an MCP server that is none": mcp(
        'url: "x.example/mcp" is not a URL', "begin it with https://", "4:26",
        '  hub: {allow: "*", url: x.example/mcp}',
    ),
    "effect that does not exist": mcp(
        'effect.look: expected one of read, idempotent, irreversible, got "none"', "leave it out", "4:51",
        "  hub: {allow: [look], command: x, effect: {look: none}}",
    ),
    "effect of a tool that is not allowed": mcp(
        "effect.peek is not in allow", "add it there", "4:45",
        "  hub: {allow: [look], command: x, effect: {peek: read}}",
    ),
    "MCP timeout with a unit": mcp(
        'timeout_s: expected a number of seconds, got "30s"', "without quotes and units", "4:44",
        '  hub: {allow: "*", command: x, timeout_s: 30s}',
    ),
    "egress of everything": front('egress: "*" is not a host', "example.com", "3:10", 'egress: ["*"]'),
    "egress to the bus": front(
        'egress: "nats.example.com:4222" has the port 4222', "example.com", "4:5", "egress:",
        "  - nats.example.com:4222",
    ),
    "egress under a top-level domain": front(
        'egress: "*.com" allows too much', "*.example.com", "3:10", 'egress: ["*.com"]'
    ),
    "fetch_url without egress": front(
        "fetch_url is not given by name", "`egress: [example.com]`", "3:9", "tools: [fetch_url]"
    ),
    "skill that does not exist": Wrong(
        files={**KNOTS, "agents/stowage.md": "---\ndescription: Plans\nskills: [nots]\n---\nPrompt\n"},
        at="agents/stowage.md:3:10",
        says='skill "nots" has no file skills/nots/SKILL.md',
        hint="did you mean knots?",
    ),
    "skill that leaves the folder": front(
        'skill "../knots" has no file', "there are none", "3:10", "skills: [../knots]"
    ),
    "skill listed twice": Wrong(
        files={**KNOTS, "agents/stowage.md": "---\ndescription: Plans\nskills: [knots, knots]\n---\nPrompt\n"},
        at="agents/stowage.md:3:17",
        says="skill knots is listed twice",
        hint="keep one",
    ),
    "skill of another name": skill(
        'name: expected knots, as the folder is called, got "nots"', "rename", "2:7", "name: nots", "description: x"
    ),
    "skill without a description": skill("description is missing", "models choose by it", "2:1", "name: knots"),
    "skill with an unknown key": skill(
        "unknown key descripton", "did you mean description?", "4:1", "name: knots", "description: x", "descripton: y"
    ),
    "skill whose description is too long": skill(
        "description: more than 1024 characters", "into the instructions", "3:14", "name: knots",
        f"description: {'x' * 1025}",
    ),
    "skill whose metadata are not text": skill(
        "metadata.version: expected text, got 1", "put it in quotes", "4:21", "name: knots", "description: x",
        "metadata: {version: 1}",
    ),
    "skill without instructions": Wrong(
        files={"skills/knots/SKILL.md": "---\nname: knots\ndescription: x\n---\n"},
        at="skills/knots/SKILL.md:5:1",
        says="the instructions are empty",
        hint="after the front matter",
    ),
    "skill with two dashes": Wrong(
        files={"skills/k--s/SKILL.md": "---\nname: k--s\ndescription: x\n---\nTie.\n"},
        at="skills/k--s/SKILL.md:2:7",
        says='"k--s" is not a name for a skill',
        hint="single dashes",
    ),
    "skill with too long a name": Wrong(
        files={f"skills/{'k' * 65}/SKILL.md": f"---\nname: {'k' * 65}\ndescription: x\n---\nTie.\n"},
        at=f"skills/{'k' * 65}/SKILL.md:2:7",
        says="is not a name for a skill",
        hint="at most 64",
    ),
    # Python files
    "handler without annotations": python(
        "agents/price_check.py", "must be annotated with a msgspec.Struct", "handle(input: SomeStruct", "9:1",
        CODE + "async def handle(order, context): ...\n",
    ),
    "handler that is not async": python(
        "agents/price_check.py", "handle must be an async function", "async def handle", "9:1",
        CODE + "def handle(order: Order, context: object) -> None: ...\n",
    ),
    "handler with too few arguments": python(
        "agents/price_check.py", "must take two arguments", "async def handle", "9:1",
        CODE + "async def handle(order: Order) -> None: ...\n",
    ),
    "handler that returns text": python(
        "agents/price_check.py", "must return a msgspec.Struct or None", "async def handle", "9:1",
        CODE + "async def handle(order: Order, context: object) -> str: ...\n",
    ),
    "handler with a type JSON cannot say": python(
        "agents/price_check.py", "handle cannot be used", "async def handle", "9:1",
        CODE.replace("int", "complex") + "async def handle(order: Order, context: object) -> None: ...\n",
    ),
    "no handler": python("agents/price_check.py", "no function handle", "add `async def handle", "1:1", CODE),
    "handler's file without a docstring": python(
        "agents/price_check.py", "no docstring", "the lead reads it", "1:1",
        CODE.replace('"""Prices."""', "") + "async def handle(order: Order, context: object) -> None: ...\n",
    ),
    "syntax error": python(
        "agents/price_check.py", "cannot be imported: SyntaxError", "mend the file", "2:5", '"""Prices."""\nx = =\n'
    ),
    "tools.py fails": python(
        "tools.py", "cannot be imported: ZeroDivisionError: division by zero", "mend the file", "3:9",
        "def ratio():\n    # of nothing\n    x = 1 / 0\n\n\nratio()\n",
    ),
    "tools.py leaves": python(
        "tools.py", "cannot be imported: SystemExit", "mend the file", "1:1", "raise SystemExit(3)\n"
    ),
    "a module further in fails": Wrong(
        files={"tariff/rates.py": "RATE_CENTS = 1\nRATES = {}['a']\n", "team.yaml": HEAD},
        at="tariff/rates.py:2:9",
        says="cannot be imported: KeyError",
        hint="mend the file",
    ),
    "absolute import of a module of the folder": python(
        "tools.py", "No module named 'tariff'", "import relatively: from .tariff import", "1:1",
        "from tariff.rates import RATE_CENTS\n",
    ),
    "package that is not installed": python(
        "tools.py", "No module named 'numpyy'", "install the package that holds numpyy", "1:1", "import numpyy\n"
    ),
    "tool without a docstring": python(
        "tools.py", "tool weigh needs a docstring", "mend the file", "9:2",
        TOOL + '@tool(effect="read")\nasync def weigh(args: Crate, context: ToolContext) -> int: ...\n',
    ),
    "tool with the name of a built-in one": python(
        "tools.py", "tool read_file has the name of a built-in tool", "rename it", "9:1",
        TOOL + WEIGH.replace("weigh", "read_file") + WEIGH,
    ),
    "tool with the name of a control tool": python(
        "tools.py", "tool delegate has the name of a control tool", "rename it", "9:1",
        TOOL + WEIGH.replace("weigh", "delegate") + WEIGH,
    ),
    "two tools of one name": python(
        "tools.py", "there are two tools weigh", "rename one of them", "9:1",
        TOOL + WEIGH + "first = weigh\n" + WEIGH,
    ),
    "rehearsal.py fails": python(
        "rehearsal.py", "cannot be imported: NameError", "mend the file", "2:10", "\nx: int = unknown\n"
    ),
    "async rehearsal": python(
        "rehearsal.py", "the rehearsal price_check must not be async", "def price_check(turn: Turn) -> Move", "1:1",
        "async def price_check(turn): ...\n",
    ),
    "rehearsal without a turn": python(
        "rehearsal.py", "the rehearsal lead must take one argument", "def lead(turn: Turn) -> Move", "2:1",
        "\ndef lead(): ...\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_team_is_refused_with_the_place_the_reason_and_a_hint(write_team: Write, wrong: Wrong) -> None:
    folder = write_team(wrong.files)

    with pytest.raises(TeamError) as refused:
        load_team(folder)

    found = refused.value.problems
    print(*found, sep="\n")
    assert [f"{problem.path}:{problem.line}:{problem.column}" for problem in found] == [wrong.at]
    assert wrong.says in found[0].message
    assert wrong.hint in found[0].hint
