"""Draws docs/performance.svg, the picture in the README, from the tables of docs/performance.md.

    python benches/chart.py docs/performance.md docs/performance.svg

`bench.py --output` does so as well. A bar says how many times as fast as asyncio a loop is: the longer, the
better.
"""

import re
import sys
from pathlib import Path
from xml.sax.saxutils import escape

# Rows of the tables, and how the picture names them.
OPERATIONS = {
    "`await sleep(0)`": "sleep(0)",
    "`await create_task(noop())`": "create_task, awaited",
    "`gather` of 100, per task": "gather of 100 tasks",
    "`TaskGroup` of 100, per task": "TaskGroup of 100 tasks",
    "`Lock`, ten tasks in turn": "Lock, ten tasks in turn",
    "`Queue(1)`, from task to task": "Queue(1), from task to task",
    "`timeout(60)` around a `sleep(0)`": "timeout around a sleep(0)",
    "`call_soon`, each from the one before": "call_soon",
}
SERVERS = {
    "TCP, Protocol, 1 KiB, 64 connections": "TCP, protocols",
    "TCP, streams, 1 KiB, 64 connections": "TCP, streams",
    "TLS, streams, 1 KiB, 64 connections": "TLS, streams",
    "UDP, DatagramProtocol, 1 KiB, 32 sockets": "UDP",
    "uvicorn with httptools, plain text, 64 connections": "uvicorn",
}
PANELS = {
    "Operations: how many times as fast as asyncio": OPERATIONS,
    "Servers, 1 KiB a message: how many times as many for the same processor time": SERVERS,
}
# Columns of the tables, how the legend names them, and the class of their bars.
SERIES = {
    "uvloop": ("uvloop", "uvloop"),
    "rsloop": ("rsloop", "rsloop"),
    "zuvloop": ("zuvloop", "zuvloop"),
    "velodrome": ("velodrome, the loop alone", "alone"),
    "velodrome's own": ("velodrome, all of asyncio replaced", "own"),
}
BASELINE = "asyncio"

WIDTH, LEFT, RIGHT = 820, 190, 44
BAR, GAP, TITLE, LEGEND = 9, 12, 30, 40

STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.name { text-anchor: end }
.value { font-size: 9px; fill: #57606a }
.base { stroke: #57606a; stroke-dasharray: 2 2 }
.uvloop { fill: #8c959f } .rsloop { fill: #afb8c1 } .zuvloop { fill: #d0d7de }
.alone { fill: #f2a65a } .own { fill: #d9480f }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .value { fill: #9198a1 } .base { stroke: #9198a1 }
  .uvloop { fill: #9198a1 } .rsloop { fill: #6e7681 } .zuvloop { fill: #484f58 }
}"""


def tables(page):
    """Read the page's tables, of the first version of CPython that has a row: {row: {column: number}}."""
    found, columns = {}, []
    for line in page.splitlines():
        if not line.startswith("|"):
            columns = []
            continue
        name, *cells = (cell.strip(" *") for cell in line.strip("|").split("|"))
        name = name.rstrip("° ¹")
        if not columns:
            columns = cells
        elif name not in found:
            found[name] = {
                column: float(cell.replace(",", ""))
                for column, cell in zip(columns, cells, strict=True)
                if re.fullmatch(r"[\d,]+(\.\d+)?", cell)
            }
    return found


def speeds(row):
    """Say how many times as fast as asyncio the loops of a row are."""
    return {name: row[BASELINE] / row[name] for name in SERIES if name in row}


class Picture:
    """An SVG that grows downwards."""

    def __init__(self):
        self.y = 0
        self.parts = []

    def text(self, x, y, text, kind):
        """Write something; `y` is the base line."""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(text)}</text>')

    def bar(self, x, y, width, kind):
        """Draw a bar."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:.1f}" height="{BAR - 1}" class="{kind}"/>'
        )

    def legend(self):
        """Say which colour is whose."""
        x = LEFT
        for name, kind in SERIES.values():
            self.bar(x, self.y + 9, BAR, kind)
            self.text(x + BAR + 5, self.y + 17, name, "key")
            x += 30 + 6.3 * len(name)
        self.y += LEGEND

    def panel(self, title, rows, longest):
        """Draw a group of rows; `longest` is the speed that takes all of the width."""
        scale = (WIDTH - LEFT - RIGHT) / longest
        self.text(LEFT, self.y + 12, title, "title")
        self.y += TITLE
        top = self.y - 6
        for name, speed in rows:
            self.text(LEFT - 10, self.y + len(speed) * BAR / 2 + 4, name, "name")
            for column, times in speed.items():
                self.bar(LEFT, self.y, times * scale, SERIES[column][1])
                self.text(LEFT + times * scale + 4, self.y + BAR - 1, f"{times:.1f}", "value")
                self.y += BAR
            self.y += GAP
        x = LEFT + scale
        self.parts.append(f'<path d="M{x:.1f} {top}V{self.y - 4}" class="base"/>')
        self.text(x + 3, self.y + 4, "asyncio", "value")
        self.y += GAP

    def svg(self, title):
        """Give the whole."""
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.y}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{STYLE}\n</style>",
            *self.parts,
            "</svg>",
        ]
        return "\n".join(lines) + "\n"


def draw(page):
    """Make the picture of a page of tables; nothing if it lacks the rows."""
    found = tables(page)
    panels = {
        title: [(label, speeds(found[row])) for row, label in rows.items() if BASELINE in found.get(row, ())]
        for title, rows in PANELS.items()
    }
    panels = {title: rows for title, rows in panels.items() if rows}
    if not panels:
        return None
    longest = max(max(speed.values()) for rows in panels.values() for _, speed in rows)
    picture = Picture()
    picture.legend()
    for title, rows in panels.items():
        picture.panel(title, rows, longest)
    return picture.svg("How fast event loops are beside asyncio's")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    drawn = draw(Path(sys.argv[1]).read_text())
    if drawn is None:
        sys.exit(f"{sys.argv[1]}: none of the rows that the picture shows")
    Path(sys.argv[2]).write_text(drawn)
