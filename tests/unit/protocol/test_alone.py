"""The protocol is all that a service in this language needs to speak it: it has to work with msgspec and no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

import shanty_protocol
from shanty_protocol import codec

PROTOCOL = Path(__file__).parents[3] / "protocol"

ALONE = """
import sys
sys.path += {added!r}

import shanty_protocol
loaded = {{name.partition(".")[0] for name in sys.modules}}
beside = loaded - set(sys.stdlib_module_names) - {{"shanty_protocol", "msgspec", "__main__"}}
assert not beside, beside
# Nothing that could do I/O by itself has come along.
assert not loaded & {{"asyncio", "socket", "ssl", "http", "subprocess", "threading", "selectors"}}, loaded

import importlib, pkgutil
for module in pkgutil.iter_modules(shanty_protocol.__path__, "shanty_protocol."):
    importlib.import_module(module.name)
beside = {{name.partition(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names)
assert beside == {{"shanty_protocol", "msgspec", "__main__"}}, beside
assert shanty_protocol.__file__.startswith({added!r}[0])

from shanty_protocol import EntryAddress, ThreadOpened, codec, subjects
entry = ThreadOpened(at_ms=1)
assert codec.decode_entry(codec.encode(entry), codec.message_headers(entry)) == entry
assert subjects.parse("shanty.0.log.0-r.0.lead.1") == EntryAddress("log", "0-r", "0", "lead", 1)
"""


def test_the_protocol_works_where_only_msgspec_is_installed(tmp_path: Path) -> None:
    assert msgspec.__file__ is not None
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "msgspec").symlink_to(Path(msgspec.__file__).parent)
    code = ALONE.format(added=[str(PROTOCOL), str(installed)])
    # -I and -S: neither the environment's packages nor the user's, nor this folder.
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_all_that_is_exported_exists_and_is_said_once() -> None:
    exported = shanty_protocol.__all__
    assert all(hasattr(shanty_protocol, name) for name in exported)
    assert len(set(exported)) == len(exported)


def test_every_message_is_exported() -> None:
    for channel in codec.CHANNELS.values():
        for message in codec.kinds_of(channel).values():
            assert getattr(shanty_protocol, message.__name__) is message
