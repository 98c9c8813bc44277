"""The feed that `make run` plays: two and a half minutes of a random feed, recorded by weir itself with

    weir feed serve --random --seed 2026 --parents 16 --children 180 --rate 20 --relations-every 12 \\
        --duration 150 --speed 200 --record producers/simulators/feed/samples/sample.feed.ndjson
"""

from __future__ import annotations

from pathlib import Path

SAMPLE = Path(__file__).with_name("sample.feed.ndjson")
