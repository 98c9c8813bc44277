"""Events per second as live keys and partitions grow, as JSON and as a plot.

    python -m benchmarks.growth [--events 2000000] [--keys 10000 100000 1000000] [--partitions 4 16 64] [--plot FILE]

The links benchmark's measure (one worker, per pair, one window) with so many distinct pairs of 1 000 children at 4
partitions, and with 50 000 draws of a pair at so many partitions; beside each the bare loop of the same topic.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import bench, links

WIDTH, HEIGHT, LEFT, TOP, SIDE, BOTTOM = 760, 300, 60, 40, 290, 220


def point(partitions: int, pairs: int, events: int, exact: bool, linger: str) -> dict[str, float]:
    """One measurement with topics of its own: `pairs` distinct ones, or, not exact, so many draws."""
    with bench.kafka(WEIR_PARTITIONS=partitions) as config:
        children = bench.ids(1_000)
        drawn = bench.pairs_among(children, len(children) ** 2)[:pairs] if exact else bench.pairs_among(children, pairs)
        values = [bench.call(*pair) for pair in drawn]
        bench.fill(config, bench.spread(values, events))
        bench.relate(config, links.parents(children, "pair", 0))
        bare = links.bare(config, events)
        found = links.weir(config, events, linger=linger)
    return {
        "partitions": partitions,
        "keys": round(bare["cells"]),
        "bare_events_per_s": round(bare["events_per_s"]),
        **{name: round(value, 2 if value < 100 else 0) for name, value in found.items()},
    }


def plot(keys: list[dict[str, float]], partitions: list[dict[str, float]], caption: str) -> str:
    """Two line charts side by side as SVG: events per second over keys, and over partitions."""
    top = max(p[name] for p in keys + partitions for name in ("events_per_s", "bare_events_per_s")) * 1.05
    panels = _panel(keys, "keys", "distinct keys in one window, 4 partitions", LEFT, top)
    panels += _panel(partitions, "partitions", "partitions, about 48 770 keys", LEFT + SIDE + 70, top)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="11">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n'
        f'<text x="{LEFT}" y="20">thousand events/s: <tspan fill="#1668b8">weir, one worker</tspan>, '
        f'<tspan fill="#888">bare loop</tspan></text>\n{panels}'
        f'<text x="{LEFT}" y="{HEIGHT - 6}" fill="#555">{caption}</text>\n</svg>\n'
    )


def _panel(points: list[dict[str, float]], over: str, title: str, left: int, top: float) -> str:
    step = SIDE / max(1, len(points) - 1)
    out = [f'<path d="M{left} {TOP}V{BOTTOM}H{left + SIDE}" fill="none" stroke="#333"/>']
    for share in range(5):
        value, y = top * share / 4, BOTTOM - (BOTTOM - TOP) * share / 4
        out.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{value / 1000:.0f}</text>')
    for name, colour in (("bare_events_per_s", "#888"), ("events_per_s", "#1668b8")):
        places = [(left + n * step, BOTTOM - (BOTTOM - TOP) * p[name] / top) for n, p in enumerate(points)]
        line = " ".join(f"{x:.0f},{y:.0f}" for x, y in places)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>' for x, y in places]
    for n, p in enumerate(points):
        out.append(f'<text x="{left + n * step:.0f}" y="{BOTTOM + 16}" text-anchor="middle">{p[over]:,.0f}</text>')
    out.append(f'<text x="{left + SIDE / 2:.0f}" y="{BOTTOM + 36}" text-anchor="middle">{title}</text>')
    return "\n".join(out) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--keys", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--partitions", type=int, nargs="*", default=[4, 16, 64])
    parser.add_argument("--linger", default="200ms")
    parser.add_argument("--plot", type=Path, help="where the SVG goes, such as docs/explanation/growth.svg")
    parser.add_argument("--caption", default="", help="what stands below it: the date, the machine")
    args = parser.parse_args()
    keys = [point(4, count, args.events, True, args.linger) for count in args.keys]
    partitions = [point(count, 50_000, args.events, False, args.linger) for count in args.partitions]
    if args.plot:
        args.plot.write_text(plot(keys, partitions, args.caption))
    print(json.dumps({"events": args.events, "linger": args.linger, "keys": keys, "partitions": partitions}))


if __name__ == "__main__":
    main()
