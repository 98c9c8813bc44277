"""Stands in for curl: as much of its command line as the README uses.

python curl_tool.py [-s] URL [--json BODY]
"""

from __future__ import annotations

import argparse
import sys
import urllib.error
import urllib.request


def main() -> None:
    parser = argparse.ArgumentParser("curl")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("url")
    found = parser.parse_args()
    body = None if found.json is None else found.json.encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(found.url, body, headers)) as answer:
            sys.stdout.buffer.write(answer.read())
    except urllib.error.HTTPError as e:
        sys.stdout.buffer.write(e.read())


if __name__ == "__main__":
    main()
