"""Curves of runs as an SVG file: a panel for each case, a line (mean over seeds) with a band (smallest to largest) for each side."""
from html import escape

COLOURS = {"dsft": "#1f6fb4", "TRL": "#d9762b"}
PANEL_WIDTH, PANEL_HEIGHT, LEFT, TOP, GAP, BOTTOM = 300, 200, 46, 44, 58, 40


class Scale:
    """From data to places on the page."""

    def __init__(self, num_updates, low, high, left):
        self.num_updates, self.low, self.high, self.left = num_updates, low, high, left

    def x(self, update):
        return self.left + (update - 1) / max(self.num_updates - 1, 1) * PANEL_WIDTH

    def y(self, value):
        return TOP + (self.high - value) / (self.high - self.low) * PANEL_HEIGHT

    def path(self, values, first=1):
        return [f"{self.x(first + i):.1f},{self.y(value):.1f}" for i, value in enumerate(values)]


def text(x, y, content, anchor="middle", size=11, fill="#333"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">{escape(content)}</text>'


def ticks(low, high):
    """About five round numbers."""
    step = next(step for step in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if (high - low) / step <= 6)
    first = int(-(-low // step))
    return [round(step * i, 6) for i in range(first, int(high // step) + 1)]


def axes(scale, title):
    right, bottom = scale.left + PANEL_WIDTH, TOP + PANEL_HEIGHT
    parts = [text(scale.left + PANEL_WIDTH / 2, TOP - 12, title, size=12),
             f'<path d="M{scale.left} {TOP}V{bottom}H{right}" fill="none" stroke="#888"/>',
             text(scale.left + PANEL_WIDTH / 2, bottom + 32, "update")]
    for value in ticks(scale.low, scale.high):
        parts.append(f'<path d="M{scale.left} {scale.y(value):.1f}H{right}" stroke="#e4e4e4"/>')
        parts.append(text(scale.left - 6, scale.y(value) + 4, f"{value:g}", "end"))
    for update in ticks(1, scale.num_updates):
        if update >= 1:
            parts.append(text(scale.x(update), bottom + 16, f"{update:g}"))
    return parts


def panel(title, curves, left):
    """`curves`: side -> one list of rewards for each seed."""
    values = [value for runs in curves.values() for run in runs for value in run]
    margin = 0.05 * (max(values) - min(values)) or 0.1
    scale = Scale(len(next(iter(curves.values()))[0]), min(values) - margin, max(values) + margin, left)
    parts = axes(scale, title)
    for side, runs in curves.items():
        columns = list(zip(*runs, strict=True))
        band = scale.path([max(column) for column in columns]) + scale.path([min(column) for column in columns])[::-1]
        parts.append(f'<polygon points="{" ".join(band)}" fill="{COLOURS[side]}" opacity="0.18"/>')
        means = scale.path([sum(column) / len(column) for column in columns])
        parts.append(f'<polyline points="{" ".join(means)}" fill="none" stroke="{COLOURS[side]}" stroke-width="1.6"/>')
    return parts


def draw(path, panels):
    """`panels`: (title, curves) from left to right."""
    width, height = LEFT + len(panels) * (PANEL_WIDTH + GAP), TOP + PANEL_HEIGHT + BOTTOM
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif">',
             f'<rect width="{width}" height="{height}" fill="white"/>']
    for index, (title, curves) in enumerate(panels):
        parts += panel(title, curves, LEFT + index * (PANEL_WIDTH + GAP))
    for index, (side, colour) in enumerate(COLOURS.items()):
        x = LEFT + 90 * index
        parts.append(f'<path d="M{x} 12h24" stroke="{colour}" stroke-width="3"/>')
        parts.append(text(x + 30, 16, side, "start"))
    path.write_text("\n".join(parts + ["</svg>"]) + "\n")
