"""An MCP server with one tool: whatever is paid leaves a line with the key that came with the call."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

PAY = {"name": "pay", "description": "Pays.", "inputSchema": {"type": "object"}}
INFO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "shop", "version": "1"},
}
UNKNOWN_METHOD = {"code": -32601, "message": "no such method"}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        return INFO
    if method == "tools/list":
        return {"tools": [PAY]}
    if method != "tools/call":
        return None
    key = params["_meta"]["shanty/effect-key"]
    with (Path(os.environ["VAULT_FOLDER"]) / "ledger.txt").open("a") as file:
        file.write(f"{key} pay shop\n")
    return {"content": [{"type": "text", "text": "pay"}]}


if __name__ == "__main__":
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request:
            result = answer(request["method"], request.get("params") or {})
            said = {"error": UNKNOWN_METHOD} if result is None else {"result": result}
            print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **said}), flush=True)
