from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import msgspec
import pytest

from shanty_protocol import codec
from shanty_protocol.schema import main, schema, schemas

CHECKED_IN = Path(__file__).parents[3] / "protocol" / "schema" / "v1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(CHECKED_IN, tmp_path / "v1")


def test_the_schemas_that_are_checked_in_are_what_the_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(CHECKED_IN)]) == 0
    assert capsys.readouterr() == ("", "")


def test_drift_is_named_with_the_way_to_mend_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "cards.json").write_bytes((folder / "cards.json").read_bytes().replace(b"agent", b"actor", 1))
    (folder / "live.json").unlink()
    (folder / "old.json").write_text("{}")
    assert main(["--check", str(folder)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{folder}/live.json is missing",
        f"{folder}/cards.json is not what the code says",
        f"{folder}/old.json belongs to no channel",
        f"to bring them up to date: python -m shanty_protocol.schema --write {folder}",
    ]


def test_writing_mends_drift(folder: Path) -> None:
    (folder / "cards.json").write_text("{}")
    (folder / "live.json").unlink()
    assert main(["--write", str(folder)]) == 0
    assert main(["--check", str(folder)]) == 0


def test_schemas_can_be_written_where_there_were_none(tmp_path: Path) -> None:
    assert main(["--write", str(tmp_path / "new" / "v1")]) == 0
    assert main(["--check", str(tmp_path / "new" / "v1")]) == 0


@pytest.mark.parametrize("seed", ["1", "2"])
def test_every_process_writes_the_same_bytes(seed: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shanty_protocol.schema", "--write", str(tmp_path)]
    subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, check=True, timeout=60)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == schemas()


def test_each_schema_is_valid_and_has_a_name_of_its_own() -> None:
    named = set()
    for text in schemas().values():
        written = msgspec.json.decode(text)
        jsonschema_rs.meta.validate(written)
        named.add(written["$id"])
    assert named == {f"urn:shanty:protocol:v1:{channel}" for channel in codec.CHANNELS}


@pytest.mark.parametrize("channel", codec.CHANNELS)
def test_a_schema_tells_kinds_apart(channel: str) -> None:
    written = schema(channel)
    mapping = written["discriminator"]["mapping"]
    assert set(mapping) == set(codec.kinds_of(codec.CHANNELS[channel]))
    assert [{"$ref": reference} for reference in mapping.values()] == written["oneOf"]
    for kind, reference in mapping.items():
        definition = written["$defs"][reference.rpartition("/")[2]]
        assert definition["properties"]["kind"] == {"enum": [kind]}
        assert "kind" in definition["required"]
        assert definition["description"]


def test_fields_are_described_as_in_the_code_inherited_ones_too() -> None:
    definitions = schema("entries")["$defs"]
    assert definitions["ThreadOpened"]["properties"]["fence"]["description"] == (
        "The lease under which it was written; a later holder's is larger. 0: the one answer, which needs none."
    )
    assert definitions["Brief"]["properties"]["files"]["description"] == "Workspace paths to start from."
    assert definitions["FileRef"]["properties"]["digest"]["description"].startswith("SHA-256")
