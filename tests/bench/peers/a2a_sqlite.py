"""A2A over HTTP with the project's own SDK: tasks are kept in SQLite, a task is asked for by JSON-RPC."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
import uuid

import httpx
import uvicorn
from a2a.helpers.proto_helpers import get_message_text, new_task_from_user_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes.jsonrpc_routes import create_jsonrpc_routes
from a2a.server.tasks import DatabaseTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette

from bench.peers.measuring import TEXT, measure, process, until_it_answers


class Echo(AgentExecutor):
    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        task = context.current_task or new_task_from_user_message(context.message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.add_artifact([new_text_part(get_message_text(context.message))])
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError("nothing is cancelled here")


def serve(port: int, folder: str) -> None:
    card = AgentCard(
        name="echo",
        description="Gives back what it is given",
        version="1",
        capabilities=AgentCapabilities(),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
    )
    store = DatabaseTaskStore(
        create_async_engine(f"sqlite+aiosqlite:///{folder}/tasks.sqlite", connect_args={"timeout": 60})
    )
    handler = DefaultRequestHandler(agent_executor=Echo(), task_store=store, agent_card=card)
    app = Starlette(routes=create_jsonrpc_routes(handler, "/"))
    uvicorn.run(app, port=port, log_level="error")


async def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    headers = {"A2A-Version": "1.0"}
    async with httpx.AsyncClient(timeout=120, limits=limits, headers=headers) as client:

        async def delegate(conversation: str, number: int) -> None:
            message = {"messageId": str(uuid.uuid4()), "role": "ROLE_USER", "parts": [{"text": TEXT}]}
            call = {"jsonrpc": "2.0", "id": number, "method": "SendMessage", "params": {"message": message}}
            answer = (await client.post(f"http://127.0.0.1:{port}/", json=call)).json()
            assert "result" in answer, answer
            assert answer["result"]["task"]["artifacts"][0]["parts"][0]["text"] == TEXT, answer

        with tempfile.TemporaryDirectory() as folder:
            with process(sys.executable, "-m", "bench.peers.a2a_sqlite", str(port), folder):
                await until_it_answers(delegate)
                # More at once and SQLite gives up waiting for its lock.
                await measure(delegate, in_flight=16, each=8)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        serve(int(sys.argv[1]), sys.argv[2])
    else:
        asyncio.run(main())
