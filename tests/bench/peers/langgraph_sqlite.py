"""LangGraph: a graph of one node, checkpointed in SQLite. It runs in the process that asks."""

from __future__ import annotations

import asyncio
import tempfile
from typing import TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from bench.peers.measuring import TEXT, measure


class Text(TypedDict):
    text: str


async def echo(given: Text) -> Text:
    return given


async def main() -> None:
    graph = StateGraph(Text)
    graph.add_node("echo", echo)
    graph.add_edge(START, "echo")
    graph.add_edge("echo", END)
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncSqliteSaver.from_conn_string(f"{folder}/checkpoints.sqlite") as saver:
            compiled = graph.compile(checkpointer=saver)

            async def delegate(conversation: str, number: int) -> None:
                config = {"configurable": {"thread_id": f"{conversation}-{number}"}}
                answer = await compiled.ainvoke({"text": TEXT}, config)
                assert answer["text"] == TEXT

            await measure(delegate)


if __name__ == "__main__":
    asyncio.run(main())
