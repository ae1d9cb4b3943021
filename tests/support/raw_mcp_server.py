"""An MCP server without the SDK, for what the SDK would never send. Its tools and answers are in a file:

{"tools": [...], "answers": {"tool": {"result": ...} | {"error": ...} | "anything that is not a message"}}
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PLAN = json.loads(Path(sys.argv[1]).read_text())
INFO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "raw", "version": "1"},
}


def answer(method: str, params: dict[str, Any]) -> Any:
    if method == "initialize":
        return {"result": INFO}
    if method == "tools/list":
        return {"result": {"tools": PLAN["tools"]}}
    if method == "tools/call":
        return PLAN["answers"][params["name"]]
    return {"error": {"code": -32601, "message": "no such method"}}


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        said = answer(request["method"], request.get("params", {}))
        if isinstance(said, dict):
            said = json.dumps({"jsonrpc": "2.0", "id": request["id"], **said})
        print("starting up, please wait", said, sep="\n", flush=True)
