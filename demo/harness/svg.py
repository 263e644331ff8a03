"""The few SVG elements that the picture is made of."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

INK = "#222"


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    """Words at a place."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}" font-size="{size}">'
        f"{escape(words)}</text>"
    )


def rect(x: float, y: float, width: float, height: float, *, fill: str, more: str = "") -> str:
    """A filled rectangle; `more` are further attributes."""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{fill}" {more}/>'


def upright(x: float, top: float, bottom: float, *, stroke: str, more: str = "") -> str:
    """An upright line."""
    return f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{stroke}" {more}/>'


def curve(points: Sequence[tuple[float, float]], *, stroke: str) -> str:
    """A line through points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="1.8"/>'


def document(width: float, height: float, elements: Sequence[str]) -> str:
    """The whole file, on white, so that it can be read on any page."""
    body = "\n".join([rect(0, 0, width, height, fill="#ffffff"), *elements])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f"font-family=\"system-ui, 'DejaVu Sans', sans-serif\">\n{body}\n</svg>\n"
    )
