#!/usr/bin/env python3
"""Makes DIR/report.html from what a training job has told: DIR/events.jsonl and, where it is there, DIR/result.json.

usage: report.py [DIR]

One page that needs nothing else: loss, ranks, throughput and recoveries over time, and the same as tables.
"""

import html
import json
import pathlib
import sys

import report_charts
import report_events

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6470; --paper: #ffffff; --card: #f5f6f8; --grid: #e4e7eb;
        --loss: #3b5bdb; --world: #0b7285; --rate: #94a3b8; --life: #a5b4fc; --newcomer: #8ce99a; --kill: #d6336c;
        --join: #2b8a3e; --flag-ink: #ffffff; --good: #2b8a3e; --bad: #c92a2a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a0a8b4; --paper: #14171a; --card: #1e2226;
        --grid: #2c3238; --loss: #91a7ff; --world: #3bc9db; --rate: #64748b; --life: #4553b0; --newcomer: #2f7d3c;
        --kill: #f783ac; --join: #69db7c; --flag-ink: #14171a; --good: #69db7c; --bad: #ff8787; } }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: var(--ink);
       background: var(--paper); margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .3rem; } h3 { font-size: 1rem; margin: 0 0 .2rem; }
p { margin: .3rem 0 .8rem; } p.lead, .note { color: var(--soft); } .note { font-size: .9rem; }
dl.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1.6rem 0 0; }
dl.tiles div { background: var(--card); border-radius: .6rem; padding: .8rem 1rem; display: flex;
               flex-direction: column; }
dl.tiles dt { color: var(--soft); font-size: .85rem; } dl.tiles dd { margin: 0; }
dl.tiles .value { font-size: 1.45rem; font-weight: 650; line-height: 1.3; font-variant-numeric: tabular-nums; }
dl.tiles .more { font-size: .85rem; color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
figure { margin: 1rem 0 0; } .wide { overflow-x: auto; } .wide > svg { min-width: 44rem; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 12px; }
svg .tick { fill: var(--soft); font-variant-numeric: tabular-nums; } svg .panel { font-weight: 600; font-size: 13px; }
svg .grid { stroke: var(--grid); } svg .axis { stroke: var(--grid); stroke-width: 1.5; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; } svg .band { stroke: none; opacity: .18; }
svg .loss.line { stroke: var(--loss); stroke-width: 1.5; } svg .loss.band { fill: var(--loss); opacity: .25; }
svg .world.line { stroke: var(--world); stroke-width: 2.5; } svg .world.band { fill: var(--world); }
svg .rate { fill: var(--rate); } svg .life { fill: var(--life); } svg .newcomer { fill: var(--newcomer); }
svg .pid { font-size: 10.5px; opacity: .85; }
svg .event { stroke-width: 1.5; stroke-dasharray: 4 3; } svg .kill.event { stroke: var(--kill); }
svg .join.event { stroke: var(--join); } svg .kill.flag { fill: var(--kill); } svg .join.flag { fill: var(--join); }
svg .number { fill: var(--flag-ink); font-weight: 700; } svg .cross { fill: none; stroke: var(--kill);
       stroke-width: 2.5; stroke-linecap: round; }
svg .step { fill: var(--loss); } svg .wait { fill: var(--kill); opacity: .28; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(28rem, 100%), 1fr)); gap: 1rem; }
.cards figure { background: var(--card); border-radius: .6rem; padding: 1rem; break-inside: avoid; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; margin-top: .6rem; }
caption { text-align: left; color: var(--soft); font-size: .9rem; padding-bottom: .4rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th { font-weight: 600; } .text { text-align: left; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@page { margin: 14mm; }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --card: #f5f6f8; --grid: #ddd;
       --loss: #3b5bdb; --world: #0b7285; --rate: #94a3b8; --life: #a5b4fc; --newcomer: #8ce99a; --kill: #d6336c;
       --join: #2b8a3e; --flag-ink: #fff; --good: #2b8a3e; --bad: #c92a2a; }
       body { padding: 0; max-width: none; font-size: 10.5pt; } * { print-color-adjust: exact; }
       h1 { font-size: 16pt; } h2 { margin-top: 1.4rem; } dl.tiles { grid-template-columns: repeat(5, 1fr); }
       dl.tiles div { padding: .5rem .7rem; } dl.tiles .value { font-size: 13pt; }
       .wide { overflow: visible; } .wide > svg { min-width: 0; } .cards { grid-template-columns: 1fr 1fr; }
       th, td { padding: .1rem .6rem .1rem 0; font-size: 8.5pt; }
       figure, tr { break-inside: avoid; } h2 { break-after: avoid; } }
"""


def _escape(text):
    return html.escape(str(text))


def _count(number, one, many=None):
    return f"{number} {one if number == 1 else many or one + 's'}"


def _milliseconds(value):
    return "none" if value is None else f"{value:.2f} ms" if value < 100 else f"{value / 1000:.2f} s"


def _sizes(story, result):
    return result.get("world_sizes") or [size for _, _, size in story.views]


def _headline(story, result):
    kills = sum(one.kind == "kill" for one in story.interruptions)
    joins = len(story.interruptions) - kills
    parts = [_count(kills, "process", "processes") + " killed"]
    if joins:
        parts.append(_count(joins, "newcomer") + " taken in")
    missing = result.get("steps_missing")
    if missing is not None:
        parts.append("no step lost" if missing == 0 else _count(missing, "step") + " lost")
    return ", ".join(parts)


def _tiles(story, result):
    """(name, value, more, class) of the figures at the top."""
    tiles = [("steps", f"{result.get('steps', len(story.steps)):,}", f"in {story.length:.2f} s", "")]
    recoveries = [one.worst_ms for one in story.interruptions if one.kind == "kill" and one.worst_ms is not None]
    if recoveries:
        tiles.append(("slowest recovery", _milliseconds(max(recoveries)), "SIGKILL to the last survivor's next result",
                      ""))
    tiles.append(("ranks", " \u2192 ".join(map(str, _sizes(story, result))), _count(len(story.views), "view"), ""))
    if "hashes_equal" in result:
        equal = result["hashes_equal"]
        same = result.get("survivor_pids_unchanged")
        more = "" if same is None else "no survivor was restarted" if same else "a survivor was restarted"
        tiles.append(("parameters at the end", "equal bits" if equal else "NOT equal", more,
                      "good" if equal else "bad"))
    if "accuracy" in result:
        tiles.append(("test accuracy", f"{result['accuracy']:.2%}",
                      f"{result['accuracy_single']:.2%} in a single process" if "accuracy_single" in result else "",
                      ""))
    return tiles


def _interruption_rows(story):
    for number, one in enumerate(story.interruptions, 1):
        results = ", ".join(f"[{process}] {value:.2f}" for process, value in sorted(one.first_results.items()))
        yield (number, f"{one.at:.3f}", one.title(), one.step, f"{one.size_before} \u2192 {one.size_after}",
               _milliseconds(one.worst_ms) if one.kind == "kill" else "", results, f"{one.quiet_ms:.2f}",
               f"{one.usual_ms:.2f}")


def _table(caption, heads, rows, text_columns=()):
    def row(cells, tag, extra=""):
        return "<tr>" + "".join(
            f'<{tag}{extra}{" class=text" if index in text_columns else ""}>{_escape(cell)}</{tag}>'
            for index, cell in enumerate(cells)) + "</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return (f'<div class="wide"><table><caption>{_escape(caption)}</caption>'
            f'<thead>{row(heads, "th", " scope=col")}</thead><tbody>{body}</tbody></table></div>')


def _close_ups(story):
    figures = []
    for number, one in enumerate(story.interruptions, 1):
        said = ""
        if one.kind == "kill" and one.worst_ms is not None:
            said = f"All {_count(len(one.first_results), 'survivor')} had the next result {one.worst_ms:.2f} ms later."
        said += f" Longest time without a step: {one.quiet_ms:.2f} ms (usual: {one.usual_ms:.2f} ms)."
        figures.append(f'<figure>{report_charts.close_up(story, one, number)}<figcaption><h3>{number}. '
                       f'{_escape(one.title())}, step {one.step}</h3><span class="note">{_escape(said.strip())}</span>'
                       '</figcaption></figure>')
    return "".join(figures)


def page(story, result):
    """The whole page, as text."""
    tiles = "".join(f'<div><dt>{_escape(name)}</dt><dd><span class="value {style}">{_escape(value)}</span></dd>'
                    f'<dd class="more">{_escape(more)}</dd></div>'
                    for name, value, more, style in _tiles(story, result))
    founders = sum(process.founder for process in story.processes.values())
    lead = (f"{_count(founders, 'process', 'processes')} trained one network, data-parallel, over hora. Survivors of a "
            "death kept their processes, their memory and every step done so far.")
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>hora: training through failures</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><main>',
        f'<h1>{_escape(_headline(story, result))}</h1><p class="lead">{_escape(lead)}</p>'
        f'<dl class="tiles">{tiles}</dl>',
        '<h2>Over time</h2><p class="note">The loss has the smallest and the largest of each moment as a band. '
        'Numbered lines are interruptions: kills in red, newcomers in green.</p>'
        f'<figure class="wide">{report_charts.timeline(story)}</figure>']
    if story.interruptions:
        parts.append('<h2>Around each interruption</h2><p class="note">Each dot is a step that a process has done; a '
                     'bar lasts from the kill to its first result among the survivors.</p>'
                     f'<div class="cards">{_close_ups(story)}</div>')
        parts.append('<h2>Interruptions</h2>' + _table(
            "Times in seconds since the first step. The next result counts from the kill, in milliseconds; quiet is "
            "the longest time around it without a step, usual the median time between two steps within a second of it.",
            ("", "at, s", "what", "step", "ranks", "recovered in", "next result, ms", "quiet, ms", "usual, ms"),
            _interruption_rows(story), text_columns=(2, 6)))
    rows = [(f"{at:.2f}", step, f"{loss:.5f}", size, f"{rate:.0f}") for at, step, loss, size, rate in story.samples()]
    parts.append('<h2>The same as a table</h2>' + _table(
        "The last step of each fortieth of the time, and the steps per second within it.",
        ("at, s", "step", "loss", "ranks", "steps/s"), rows))
    parts.append('<footer>Made from the events that the processes wrote (events.jsonl) and result.json. Times are of '
                 'one monotonic clock on one host.</footer></main></body></html>\n')
    return "".join(parts)


def write(directory):
    """Makes the page of a directory and returns its path."""
    directory = pathlib.Path(directory)
    story = report_events.read(directory / "events.jsonl")
    path = directory / "result.json"
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    target = directory / "report.html"
    target.write_text(page(story, result), encoding="utf-8")
    return target


if __name__ == "__main__":
    default = pathlib.Path(__file__).resolve().parent.parent / "build" / "demo"
    print(write(sys.argv[1] if len(sys.argv) > 1 else default))
