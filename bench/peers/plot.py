"""The plot: one line a contestant and number of containers, from p50 to p99, on a logarithmic axis.

The picture has a ground of its own, so that its text is readable on light and dark pages.
"""

import html
import math

from report import COUNTS, parts_of, percentile, rows_of, span

WIDTH, LEFT, RIGHT = 960, 400, 40
LINE, PADDING, TITLE = 13, 10, 34
TOP = 64
COLOURS = {1: "#0072b2", 10: "#b35900", 100: "#6a3d9a"}
GROUND, INK, FAINT, GRID = "#ffffff", "#1f2328", "#59636e", "#d1d9e0"
SMALLEST, DECADES = 1.0, 6
TICKS = ["1 ms", "10 ms", "100 ms", "1 s", "10 s", "100 s", "1000 s"]


def place(milliseconds):
    """The horizontal place of a time; what is outside the axis lies on its end."""
    share = math.log10(max(milliseconds, SMALLEST) / SMALLEST) / DECADES
    return LEFT + min(share, 1.0) * (WIDTH - LEFT - RIGHT)


def text(x, y, words, *, colour=INK, anchor="start", size=12, weight="normal"):
    words = html.escape(words.replace("`", ""))
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" '
        f'font-size="{size}" font-weight="{weight}">{words}</text>'
    )


def mark(row, y):
    """From p50, a dot with its value, to p99, a bar."""
    colour = COLOURS.get(row["containers"], INK)
    middle, last = (percentile(row["samples_ms"], percent) for percent in (50, 99))
    x, end = place(middle), place(last)
    return [
        f'<line x1="{x:.1f}" y1="{y}" x2="{end:.1f}" y2="{y}" stroke="{colour}" stroke-width="2"/>',
        f'<line x1="{end:.1f}" y1="{y - 4}" x2="{end:.1f}" y2="{y + 4}" stroke="{colour}" stroke-width="2"/>',
        f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="{colour}"/>',
        text(x - 8, y + 4, span(middle), colour=colour, anchor="end", size=11),
    ]


def grid(bottom):
    """The decades."""
    parts = []
    for decade, label in enumerate(TICKS):
        x = place(SMALLEST * 10**decade)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}" stroke="{GRID}"/>')
        parts.append(text(x, TOP - 14, label, colour=FAINT, anchor="middle", size=11))
    return parts


def legend():
    """Which colour is how many containers."""
    parts = [text(16, 24, "Time until a container has the new value", size=14, weight="bold")]
    x = LEFT + 90
    for count in COUNTS:
        words = f"{count} container{'s' if count > 1 else ''}"
        parts.append(f'<circle cx="{x}" cy="20" r="4" fill="{COLOURS[count]}"/>')
        parts.append(text(x + 9, 24, words, colour=COLOURS[count]))
        x += 112
    parts.append(text(x, 24, "dot p50, bar p99", colour=FAINT))
    return parts


def draw(results):
    """The whole picture."""
    body, y = [], TOP
    for title, keys in parts_of(results):
        y += TITLE - PADDING
        body.append(text(16, y, title, size=13, weight="bold"))
        y += PADDING
        for key, label in keys.items():
            rows = [row for _, row in sorted(rows_of(results, key).items())]
            if not rows:
                continue
            body.append(text(28, y + LINE / 2 + LINE * len(rows) / 2, label))
            for row in rows:
                y += LINE
                body += mark(row, y)
            y += PADDING
    bottom = y + 4
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 16}" width="{WIDTH}" '
        f'height="{bottom + 16}" font-family="system-ui, sans-serif" role="img" '
        'aria-label="Time from a change until a container has the new value, by contestant">'
    )
    ground = f'<rect width="{WIDTH}" height="{bottom + 16}" rx="8" fill="{GROUND}" stroke="{GRID}"/>'
    return "\n".join([head, ground, *legend(), *grid(bottom), *body, "</svg>"]) + "\n"
