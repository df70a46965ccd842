#!/usr/bin/env python3
"""Draws the plots of src/benchmarks.md from its tables.

src/images/overview.svg is made from the first table, src/images/latency.svg from the table that begins with
"Round trip". Run this after changing them: docs/plot.py
"""

from pathlib import Path

SOURCE = Path(__file__).parent / "src"
IMAGES = ["python-imports", "science", "root", "analysis", "node"]
MODES = {
    "Full pull": ("full pull", "#8a94a0"),
    "Lazy": ("lazy, from CVMFS", "#d1605e"),
    "Prefetch": ("lazy, with prefetch", "#2f7ebc"),
    "Warm": ("warm cache", "#c3d0dc"),
}
WIDTH, INK, GRID = 760, "#24292f", "#e1e4e8"


def table(first_cell):
    """The rows of the table whose head begins with this cell: first cell, then numbers by column name."""
    lines = iter((SOURCE / "benchmarks.md").read_text().splitlines())
    cells = lambda line: [cell.strip() for cell in line.strip().strip("|").split("|")]
    head = next(cells(line) for line in lines if line.startswith(f"| {first_cell} |"))
    next(lines)
    for line in lines:
        if not line.startswith("|"):
            return
        first, *numbers = cells(line)
        yield first.strip("`"), dict(zip(head[1:], map(float, numbers)))


def begin(title, height):
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' font-family="sans-serif" font-size="12" fill="{INK}">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="16" y="26" font-size="16" font-weight="bold">{title}</text>',
    ]
    x = 16
    for label, color in MODES.values():
        out.append(f'<rect x="{x}" y="42" width="12" height="12" fill="{color}"/><text x="{x + 18}" y="53">{label}</text>')
        x += 52 + 7 * len(label)
    return out


def overview():
    left, bar, gap, scale, top = 130, 17, 14, 11.2, 78
    data = dict(table("Image"))
    height = top + len(IMAGES) * (len(MODES) * bar + gap) + 30
    out = begin("Seconds from pull to the end of the run, 20 ms from the server", height)
    for seconds in range(0, 51, 10):
        at = left + seconds * scale
        out.append(f'<line x1="{at}" y1="{top - 8}" x2="{at}" y2="{height - 26}" stroke="{GRID}"/>')
        out.append(f'<text x="{at}" y="{height - 10}" text-anchor="middle">{seconds} s</text>')
    y = top
    for image in IMAGES:
        middle = y + len(MODES) * bar / 2 + 4
        out.append(f'<text x="{left - 10}" y="{middle}" text-anchor="end" font-weight="bold">{image}</text>')
        for mode, (_, color) in MODES.items():
            value = data[image][mode]
            out.append(f'<rect x="{left}" y="{y + 1}" width="{value * scale:.1f}" height="{bar - 2}" fill="{color}"/>')
            weight = ' font-weight="bold"' if mode == "Prefetch" else ""
            out.append(f'<text x="{left + value * scale + 6:.1f}" y="{y + 13}"{weight}>{value + 1e-9:.1f}</text>')
            y += bar
        y += gap
    return out


def latency():
    left, top, bottom, right, height = 60, 80, 330, 690, 370
    x = lambda milliseconds: left + (right - left) * milliseconds / 100
    y = lambda seconds: bottom - (bottom - top) * seconds / 90
    rows = [(float(first.split()[0]), row) for first, row in table("Round trip")]
    out = begin("python-imports: seconds from pull to the end of the run, by distance", height)
    for seconds in range(0, 91, 15):
        out.append(f'<line x1="{left}" y1="{y(seconds)}" x2="{right}" y2="{y(seconds)}" stroke="{GRID}"/>')
        out.append(f'<text x="{left - 8}" y="{y(seconds) + 4}" text-anchor="end">{seconds} s</text>')
    for at, _ in rows:
        out.append(f'<text x="{x(at)}" y="{bottom + 18}" text-anchor="middle">{at:.0f}</text>')
    out.append(f'<text x="{(left + right) / 2}" y="{bottom + 36}" text-anchor="middle">round trip in ms</text>')
    for mode, (_, color) in MODES.items():
        points = " ".join(f"{x(at):.1f},{y(row[mode]):.1f}" for at, row in rows)
        out.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2.5"/>')
        if mode != "Warm":
            last = rows[-1][1][mode]
            out.append(f'<text x="{x(100) + 6}" y="{y(last) + 4:.1f}">{last + 1e-9:.1f} s</text>')
    return out


for name, draw in {"overview": overview, "latency": latency}.items():
    (SOURCE / "images" / f"{name}.svg").write_text("\n".join(draw() + ["</svg>\n"]))
