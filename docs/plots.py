#!/usr/bin/env python3
"""Draws docs/performance/*.svg from what was measured.

    docs/plots.py [FOLDER]

FOLDER (default docs/performance/runs) holds outputs of `keyward psp load -o json`, named PLOT-X.json: all of
one PLOT become one picture, X being what was changed (workloads, secrets, ...). The height is what was done a second,
as a share of what was done with the least X, minutes before on the same machine. pieces.json, which
`cargo bench --bench pieces` writes, becomes bars. Python's standard library is all it needs.
"""

import json
import math
import pathlib
import re
import sys
from xml.sax.saxutils import escape

HERE = pathlib.Path(__file__).resolve().parent / "performance"
WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
COLOURS = ["#1f6f8b", "#c8553d", "#588157", "#6d597a"]
AXES = {
    "workloads": "registered workloads",
    "digests": "launch digests of a workload; the guest's is the last",
    "secrets": "secrets in each release",
    "pending": "launches that wait",
    "audit": "records in the audit log",
}


def svg(width, height, parts):
    style = "text{font:13px sans-serif;fill:#222}.t{font-weight:bold}.a{stroke:#888}.g{stroke:#ddd}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    return "\n".join([head, f"<style>{style}</style>", '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"])


def text(x, y, what, anchor="start", kind=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(str(what))}</text>'


def line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def curves(title, axis, series):
    """Lines over a logarithmic axis; `series` is {name: [(x, share)]}."""
    xs = sorted({x for points in series.values() for x, _ in points})
    top = max(y for points in series.values() for _, y in points)
    step = 10 ** math.floor(math.log10(top)) / 2
    top = math.ceil(top / step) * step
    low, high = (math.log10(max(x, 1)) for x in (xs[0], xs[-1]))

    def at(x, y):
        share = (math.log10(max(x, 1)) - low) / (high - low) if high > low else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    parts = [text(LEFT, 22, title, kind="t")]
    for number in range(round(top / step) + 1):
        _, y = at(xs[0], number * step)
        parts += [line(LEFT, y, WIDTH - RIGHT, y, "g"), text(LEFT - 8, y + 4, f"{number * step:.0%}", "end")]
    for x in xs:
        place, bottom = at(x, 0)
        parts += [line(place, bottom, place, bottom + 5, "a"), text(place, bottom + 20, f"{x:,}", "middle")]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, axis, "middle"))
    for number, (name, points) in enumerate(sorted(series.items())):
        colour = COLOURS[number % len(COLOURS)]
        places = [at(x, y) for x, y in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places]
        parts.append(f'<text x="{WIDTH - RIGHT}" y="{TOP + 14 + 17 * number}" text-anchor="end" style="fill:{colour}">{escape(name)}</text>')
    return svg(WIDTH, HEIGHT, parts)


def bars(title, values):
    """Horizontal bars; `values` is [(name, ratio)]."""
    names, row = 330, 22
    top = max(ratio for _, ratio in values)
    parts = [text(10, 22, title, kind="t")]
    for number, (name, ratio) in enumerate(values):
        y = TOP + number * row
        width = max(ratio / top * (WIDTH - names - 80), 1)
        parts += [
            text(names - 8, y + 14, name, "end"),
            f'<rect x="{names}" y="{y + 2}" width="{width:.1f}" height="{row - 7}" fill="{COLOURS[0]}"/>',
            text(names + width + 6, y + 14, f"{ratio:.2f}"),
        ]
    return svg(WIDTH, TOP + len(values) * row + 10, parts)


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "runs"
    plots = {}
    for path in sorted(folder.glob("*.json")):
        named = re.fullmatch(r"([a-z]+)-(\d+)\.json", path.name)
        if not named:
            continue
        run = json.loads(path.read_text())
        plot, x = named[1], int(named[2])
        plots.setdefault(plot, {}).setdefault(run["mode"], []).append((x, run["steps"][-1]["per_second"]))
    for plot, series in plots.items():
        title = "Done a second, as a share of what is done at the left"
        for mode, points in series.items():
            first = min(points)[1]
            series[mode] = [(x, y / first) for x, y in sorted(points)]
        (HERE / f"{plot}.svg").write_text(curves(title, AXES.get(plot, plot), series))
        print(HERE / f"{plot}.svg")
    pieces = folder / "pieces.json"
    if pieces.exists():
        values = [(name, piece["ratio"]) for name, piece in json.loads(pieces.read_text()).items()]
        values.sort(key=lambda value: value[1])
        (HERE / "pieces.svg").write_text(bars("Cost, the cryptography of one launch being 1", values))
        print(HERE / "pieces.svg")


if __name__ == "__main__":
    main()
