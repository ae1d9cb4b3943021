from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shanty_runtime.agent import Profile
from shanty_runtime.agent.context import system_prompt
from shanty_runtime.errors import ToolError
from shanty_runtime.tools.skills import MAX_FILE_BYTES, LoadSkill, ReadSkillFile, Skill, skill_tools

CONTEXT: Any = None


@pytest.fixture
def skill(tmp_path: Path) -> Skill:
    folder = tmp_path / "skills" / "knots"
    (folder / "references").mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: knots\n---\nTie.\n")
    (folder / "references" / "bowline.md").write_text("Up through the hole.\n")
    (folder / ".git").write_text("hidden")
    (tmp_path / "secret.txt").write_text("secret")
    return Skill(name="knots", description="Ties\nropes. Use it on deck.", instructions="Tie.", folder=folder)


async def load(skill: Skill, name: str) -> str:
    result = await skill_tools([skill])[0](LoadSkill(name=name), CONTEXT)
    assert isinstance(result, str)
    return result


async def read(skill: Skill, path: str) -> str:
    result = await skill_tools([skill])[1](ReadSkillFile(name="knots", path=path), CONTEXT)
    assert isinstance(result, str)
    return result


def test_a_model_is_told_the_name_and_description_of_its_skills_and_not_their_instructions(skill: Skill) -> None:
    told = system_prompt(Profile(agent="bosun", role="specialist", prompt="You tie.", skills=(skill,)))

    assert told.startswith("You tie.\n\n")
    assert told.endswith("\n- knots: Ties ropes. Use it on deck.")
    assert "Tie.\n" not in told
    assert "skill" not in system_prompt(Profile(agent="bosun", role="specialist", prompt="You tie."))


async def test_loading_a_skill_gives_its_instructions_and_the_names_of_its_files(skill: Skill) -> None:
    assert await load(skill, "knots") == "Tie.\n\nFiles of this skill, for read_skill_file:\n- references/bowline.md"
    with pytest.raises(ToolError, match="there is no skill 'sails'; there are knots"):
        await load(skill, "sails")


async def test_a_file_beneath_a_skill_is_read(skill: Skill) -> None:
    assert await read(skill, "references/bowline.md") == "Up through the hole.\n"


@pytest.mark.parametrize(
    "path",
    [
        "../../secret.txt",
        "references/../../../secret.txt",
        "/etc/passwd",
        "..",
        ".",
        "",
        "references",
        "references//bowline.md",
        "..\\..\\secret.txt",
        "references/link.md",
        "references/linked/secret.txt",
        "nothing.md",
        "a\0b",
        "a" * 5000,
    ],
)
async def test_nothing_outside_of_a_skill_is_read(skill: Skill, tmp_path: Path, path: str) -> None:
    (skill.folder / "references" / "link.md").symlink_to(tmp_path / "secret.txt")
    (skill.folder / "references" / "linked").symlink_to(tmp_path)

    with pytest.raises(ToolError):
        await read(skill, path)
    assert "link" not in await load(skill, "knots")


async def test_a_file_that_is_no_text_or_too_large_is_refused(skill: Skill) -> None:
    (skill.folder / "picture.png").write_bytes(b"\x89PNG\xff")
    (skill.folder / "log.txt").write_bytes(b"x" * (MAX_FILE_BYTES + 1))

    with pytest.raises(ToolError, match=r"picture.png of skill knots is not a text file"):
        await read(skill, "picture.png")
    with pytest.raises(ToolError, match=r"log.txt of skill knots has more than 1048576 bytes"):
        await read(skill, "log.txt")


async def test_a_folder_mounted_through_links_inside_itself_is_read(skill: Skill, tmp_path: Path) -> None:
    # As Kubernetes mounts a ConfigMap.
    data = tmp_path / "..data"
    (tmp_path / "skills").rename(data)
    (tmp_path / "skills").symlink_to(data)

    assert await read(skill, "references/bowline.md") == "Up through the hole.\n"
