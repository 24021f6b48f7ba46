"""The page of perf/compare.py: one HTML file with plots drawn in SVG, nothing to load."""

import html
import math
import platform
import re

WIDTH, HEIGHT = 860, 420
LEFT, RIGHT, TOP, BOTTOM = 76, 150, 20, 52
COLORS = {"hora": "#d6336c", "openmpi": "#1c7ed6", "mpich": "#2b8a3e", "impi": "#e8890c", "memcpy": "#868e96"}

_STYLE = """
:root { color-scheme: light dark; --ink: #212529; --paper: #ffffff; --line: #dee2e6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9ecef; --paper: #16181b; --line: #3a3f45; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
       max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 12px; }
svg .grid { stroke: var(--line); } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
td small { opacity: .65; } td.best { font-weight: 600; }
"""


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            found = re.search(r"^model name\s*: (.*)$", file.read(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.machine()


def binary_size(count):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:g} {unit}"
        count /= 1024
    return ""


class _Axis:
    """Maps a logarithmic range to pixels."""

    def __init__(self, values, begin, end, base):
        self.base = base
        self.low = math.floor(math.log(min(values), base) + 1e-9)
        self.high = max(math.ceil(math.log(max(values), base) - 1e-9), self.low + 1)
        self.begin, self.end = begin, end

    def at(self, value):
        share = (math.log(value, self.base) - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self, most=12):
        step = max(1, math.ceil((self.high - self.low) / most))
        return [self.base ** power for power in range(self.low, self.high + 1, step)]


def _plot(series, y_label, y_tick, y_base=10):
    """`series` is a list of (name, title, [(bytes, low, middle, high)])."""
    points = [point for _, _, line in series for point in line]
    x = _Axis([point[0] for point in points], LEFT, WIDTH - RIGHT, 4)
    y = _Axis([value for point in points for value in point[1:]], HEIGHT - BOTTOM, TOP, y_base)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(y_label)}">']
    for tick in y.ticks():
        at = y.at(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}"/>'
                     f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{y_tick(tick)}</text>')
    for tick in x.ticks():
        at = x.at(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}"/>'
                     f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{binary_size(tick)}</text>')
    center = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{center}" y="{HEIGHT - 8}" text-anchor="middle">bytes of one rank</text>')
    parts.append(f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
                 f'{html.escape(y_label)}</text>')
    for index, (name, title, line) in enumerate(series):
        color = COLORS.get(name, "#495057")
        band = [(x.at(b), y.at(high)) for b, _, _, high in line]
        band += [(x.at(b), y.at(low)) for b, low, _, _ in line[::-1]]
        parts.append(f'<polygon fill="{color}" opacity=".15" points="{_points(band)}"/>')
        middle = [(x.at(b), y.at(value)) for b, _, value, _ in line]
        dashes = ' stroke-dasharray="5 4"' if name == "memcpy" else ""
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2"{dashes} points="{_points(middle)}"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{color}"/>' for a, b in middle]
        at = TOP + 12 + 20 * index
        edge = WIDTH - RIGHT
        parts.append(f'<line x1="{edge + 14}" y1="{at}" x2="{edge + 38}" y2="{at}" stroke="{color}" stroke-width="3"'
                     f'{dashes}/><text x="{edge + 46}" y="{at + 4}">{html.escape(title)}</text>')
    parts.append("</svg>")
    return "".join(parts)


def _points(pairs):
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in pairs)


def _programs(report):
    return [(program["name"], program["title"]) for program in report["programs"]] + [("memcpy", "memcpy by all")]


def _series(report):
    for name, title in _programs(report):
        line = [(row["bytes"], *(max(row[name][key], 1e-3) for key in ("min_us", "median_us", "max_us")))
                for row in report["rows"] if name in row]
        if line:
            yield name, title, line


def _bandwidths(series):
    """Bytes over time in GB/s; the fastest time is the highest bandwidth."""
    for name, title, line in series:
        yield name, title, [(b, b / high / 1e3, b / middle / 1e3, b / low / 1e3) for b, low, middle, high in line]


def _table(report):
    programs = _programs(report)
    rows = ["<tr><th>bytes</th>" + "".join(f"<th>{html.escape(title)}</th>" for _, title in programs) + "</tr>"]
    for row in report["rows"]:
        best = min(row[name]["median_us"] for name, _ in programs[:-1] if name in row)
        cells = []
        for name, _ in programs:
            cell = row.get(name)
            mark = ' class="best"' if cell and name != "memcpy" and cell["median_us"] == best else ""
            cells.append("<td>-</td>" if cell is None else f'<td{mark}>{cell["median_us"]:.2f} '
                         f'<small>{cell["min_us"]:.2f}&hairsp;&ndash;&hairsp;{cell["max_us"]:.2f}</small></td>')
        rows.append(f'<tr><td>{binary_size(row["bytes"])}</td>{"".join(cells)}</tr>')
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def page_of(report):
    series = list(_series(report))
    about = (f"{report['np']} ranks on {report['usable_cpus']} CPUs of {report['machine']} ({report['host']}), "
             f"{report['version']}, {report['date']}. Median of {report['rounds']} interleaved rounds; bands and small "
             "figures are the smallest and the largest round. The source is dirtied and all ranks meet before each "
             "call; the slowest rank's time counts. memcpy is the same bytes copied by all ranks at once.")
    return ("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
            "<title>hora: allreduce beside its peers</title>"
            "<meta name=\"viewport\" content=\"width=device-width\">"
            f"<style>{_STYLE}</style></head><body><h1>Allreduce of float32 sums</h1><p>{html.escape(about)}</p>"
            "<h2>Time of a call</h2>" + _plot(series, "microseconds", lambda tick: f"{tick:g}") +
            "<h2>Bytes over time</h2>" + _plot(list(_bandwidths(series)), "GB/s", lambda tick: f"{tick:g}") +
            "<h2>Microseconds</h2>" + _table(report) + "</body></html>\n")
