"""Stands in for websocat and wscat where they are not installed: as much of their command lines as the README uses.

    python websocket_tool.py websocat [-H=HEADER] URL
    python websocket_tool.py wscat -c URL [--auth USER:PASSWORD]

Each line of standard input is a text message, and each message a line of standard output, until the input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import sys

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType


def arguments(words: list[str]) -> tuple[str, dict[str, str]]:
    """The address, and the headers to send."""
    tool, *rest = words
    parser = argparse.ArgumentParser(tool)
    if tool == "websocat":
        parser.add_argument("-H", action="append", default=[])
        parser.add_argument("url")
        found = parser.parse_args(rest)
        return found.url, dict(header.removeprefix("=").split(": ", 1) for header in found.H)
    parser.add_argument("-c", required=True)
    parser.add_argument("--auth")
    found = parser.parse_args(rest)
    basic = base64.b64encode(found.auth.encode()).decode() if found.auth else None
    return found.c, {"Authorization": f"Basic {basic}"} if basic else {}


async def main() -> None:
    url, headers = arguments(sys.argv[1:])
    async with ClientSession() as session, session.ws_connect(url, headers=headers) as socket:
        receiving = asyncio.create_task(receive(socket))
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            await socket.send_str(line.rstrip(b"\n").decode())
        receiving.cancel()


async def receive(socket: ClientWebSocketResponse) -> None:
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            print(message.data, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
