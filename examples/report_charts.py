"""The charts of the demo's report, as SVG text without scripts. Colours come from the page's style sheet."""

import html
import math

WIDTH = 1040
LEFT, RIGHT = 70, 24
PANEL_GAP = 38
LANE = 20


def _escape(text):
    return html.escape(str(text))


def _points(pairs):
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def _nice_step(span, wanted):
    """1, 2 or 5 times a power of ten that divides `span` into about `wanted` parts."""
    raw = max(span, 1e-9) / wanted
    power = 10 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)


def _ticks(low, high, wanted):
    step = _nice_step(high - low, wanted)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


class _Scale:
    def __init__(self, low, high, begin, end, logarithmic=False):
        self.map = math.log10 if logarithmic else float
        self.low, self.high = self.map(low), self.map(high)
        self.begin, self.end = begin, end

    def __call__(self, value):
        share = (self.map(value) - self.low) / ((self.high - self.low) or 1.0)
        return self.begin + share * (self.end - self.begin)


def _panel(title, top, height, ticks, y, text):
    """The grid and the name of one panel."""
    parts = [f'<text class="panel" x="{LEFT}" y="{top - 10}">{_escape(title)}</text>']
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
                     f'<text class="tick" x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{text(tick)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top + height}" y2="{top + height}"/>')
    return parts


def _loss(story, x, top, height):
    losses = [max(loss, 1e-6) for _, _, loss, _ in story.steps]
    low = 10 ** math.floor(math.log10(min(losses)))
    high = max(losses) * 1.2
    y = _Scale(low, high, top + height, top, logarithmic=True)
    decades = range(round(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [10.0 ** power for power in decades if low <= 10.0 ** power <= high]
    parts = _panel("loss of the batch, logarithmic", top, height, ticks, y, lambda tick: f"{tick:g}")
    # As many points as there are pixels: the smallest and the largest loss of each, so that no spike is lost.
    buckets = {}
    for (at, *_), loss in zip(story.steps, losses):
        buckets.setdefault(int(x(at)), []).append(loss)
    band = [(column, y(max(values))) for column, values in sorted(buckets.items())]
    band += [(column, y(min(values))) for column, values in sorted(buckets.items(), reverse=True)]
    middle = [(column, y(sorted(values)[len(values) // 2])) for column, values in sorted(buckets.items())]
    return parts + [f'<polygon class="loss band" points="{_points(band)}"/>',
                    f'<polyline class="loss line" points="{_points(middle)}"/>']


def _world(story, x, top, height):
    most = max(size for _, _, size in story.views)
    y = _Scale(0, most + 0.3, top + height, top)
    parts = _panel("ranks in the view", top, height, range(0, most + 1), y, lambda tick: f"{tick}")
    corners, size = [(x(0), y(story.views[0][2]))], story.views[0][2]
    for at, _, next_size in story.views[1:]:
        corners += [(x(at), y(size)), (x(at), y(next_size))]
        size = next_size
    corners.append((x(story.length), y(size)))
    area = [(corners[0][0], y(0)), *corners, (corners[-1][0], y(0))]
    parts += [f'<polygon class="world band" points="{_points(area)}"/>',
              f'<polyline class="world line" points="{_points(corners)}"/>']
    ends = [at for at, _, _ in story.views[1:]] + [story.length]
    for (begin, epoch, size), end in zip(story.views, ends):
        if x(end) - x(max(begin, 0)) > 56:
            middle = (x(max(begin, 0)) + x(end)) / 2
            parts.append(f'<text class="inside" x="{middle:.1f}" y="{y(0) - 8:.1f}" text-anchor="middle">'
                         f'view {epoch}: {size} ranks</text>')
    return parts


def _throughput(story, x, top, height):
    rates = story.throughput()
    high = max(rate for *_, rate in rates) * 1.08 or 1.0
    y = _Scale(0, high, top + height, top)
    parts = _panel("steps per second", top, height, _ticks(0, high, 4), y, lambda tick: f"{tick:g}")
    for begin, end, rate in rates:
        parts.append(f'<rect class="rate" x="{x(begin):.1f}" width="{max(x(end) - x(begin) - 1, 0.6):.1f}" '
                     f'y="{y(rate):.1f}" height="{y(0) - y(rate):.1f}"><title>{rate:.0f} steps/s from {begin:.2f} s '
                     f'to {end:.2f} s</title></rect>')
    return parts


def _lanes(story, x, top):
    parts = [f'<text class="panel" x="{LEFT}" y="{top - 10}">processes</text>']
    for row, process in enumerate(sorted(story.processes.values(), key=lambda one: one.number)):
        y = top + row * LANE
        begin, end = x(max(process.begin, 0.0)), x(min(process.end, story.length))
        what = "killed" if process.killed else "finished" if process.finished else "ended early"
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 11}" text-anchor="end">[{process.number}]</text>'
                     f'<rect class="life{"" if process.founder else " newcomer"}" x="{begin:.1f}" y="{y}" '
                     f'width="{max(end - begin, 1):.1f}" height="{LANE - 6}" rx="3">'
                     f'<title>process {process.number}, pid {process.pid}, {what}</title></rect>'
                     f'<text class="pid" x="{begin + 6:.1f}" y="{y + 11}">pid {process.pid}</text>')
        if process.killed:
            parts.append(_cross(end, y + (LANE - 6) / 2))
    return parts


def _cross(x, y, arm=4.5):
    return (f'<path class="kill cross" d="M{x - arm:.1f} {y - arm:.1f}l{2 * arm} {2 * arm}m0 {-2 * arm}'
            f'l{-2 * arm} {2 * arm}"/>')


def timeline(story):
    """Loss, world size, throughput and processes over one time axis, with a line through all for each interruption."""
    panels = ((_loss, 190), (_world, 96), (_throughput, 110))
    lanes_height = LANE * len(story.processes)
    top = 46
    bottom = top + sum(height + PANEL_GAP for _, height in panels) + lanes_height
    x = _Scale(0, story.length, LEFT, WIDTH - RIGHT)
    parts = [f'<svg viewBox="0 0 {WIDTH} {bottom + 42}" role="img" aria-labelledby="timeline-title">'
             '<title id="timeline-title">Loss, ranks, steps per second and processes over time</title>']
    for tick in _ticks(0, story.length, 10):
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{bottom}"/>'
                     f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text class="tick" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{bottom + 36}" text-anchor="middle">'
                 'seconds since the first step</text>')
    at = top
    for draw, height in panels:
        parts += draw(story, x, at, height)
        at += height + PANEL_GAP
    parts += _lanes(story, x, at)
    for number, interruption in enumerate(story.interruptions, 1):
        column = x(interruption.at)
        kind = interruption.kind
        parts.append(f'<g><title>{_escape(interruption.title())}, step {interruption.step}</title>'
                     f'<line class="{kind} event" x1="{column:.1f}" x2="{column:.1f}" y1="26" y2="{bottom}"/>'
                     f'<circle class="{kind} flag" cx="{column:.1f}" cy="16" r="10"/>'
                     f'<text class="number" x="{column:.1f}" y="20" text-anchor="middle">{number}</text></g>')
    parts.append("</svg>")
    return "".join(parts)


def _window(interruption):
    """Milliseconds before and after it that show what happened and what is usual."""
    reach = max(interruption.worst_ms or 0.0, interruption.quiet_ms, 6 * interruption.usual_ms, 2.0)
    return -0.8 * reach, 2.2 * reach


def close_up(story, interruption, number):
    """Each dot is a step done by a process; a bar lasts from the kill to its first result of the next view."""
    low, high = _window(interruption)
    processes = [process for process in sorted(story.processes.values(), key=lambda one: one.number)
                 if process.begin <= interruption.at + high / 1000 and process.end >= interruption.at + low / 1000]
    width, left, right, top = 500, 44, 14, 34
    bottom = top + 24 * len(processes)
    x = _Scale(low, high, left, width - right)
    name = f"close-up-{number}"
    parts = [f'<svg viewBox="0 0 {width} {bottom + 40}" role="img" aria-labelledby="{name}"><title id="{name}">'
             f'{_escape(interruption.title())}: steps done by each process around it</title>']
    for tick in _ticks(low, high, 7):
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top - 4}" y2="{bottom}"/>'
                     f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text class="tick" x="{(left + width - right) / 2}" y="{bottom + 33}" text-anchor="middle">'
                 f'milliseconds since the {interruption.kind}</text>')
    for row, process in enumerate(processes):
        y = top + 24 * row + 10
        parts.append(f'<text class="tick" x="{left - 8}" y="{y + 4}" text-anchor="end">[{process.number}]</text>'
                     f'<line class="axis" x1="{left}" x2="{width - right}" y1="{y}" y2="{y}"/>')
        waited = interruption.first_results.get(process.number)
        if waited is not None:
            parts.append(f'<rect class="wait" x="{x(0):.1f}" y="{y - 7}" width="{x(waited) - x(0):.1f}" height="14" '
                         f'rx="2"><title>{waited:.2f} ms</title></rect>')
        for step, at in process.steps.items():
            offset = (at - interruption.at) * 1000
            if low <= offset <= high:
                parts.append(f'<circle class="step" cx="{x(offset):.1f}" cy="{y}" r="2.6"><title>step {step}</title>'
                             '</circle>')
        if process.number == interruption.process and interruption.kind == "kill":
            parts.append(_cross(x(0), y, 5.5))
    parts.append(f'<line class="{interruption.kind} event" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{top - 10}" '
                 f'y2="{bottom}"/><circle class="{interruption.kind} flag" cx="{x(0):.1f}" cy="14" r="10"/>'
                 f'<text class="number" x="{x(0):.1f}" y="18" text-anchor="middle">{number}</text></svg>')
    return "".join(parts)
