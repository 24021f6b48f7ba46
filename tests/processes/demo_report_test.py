#!/usr/bin/env python3
"""The demo's report tells what the events say, in one page that needs nothing else.

usage: demo_report_test.py --build DIR [--keep DIR]
"""

import argparse
import html.parser
import json
import pathlib
import re
import sys
import tempfile
import unittest
from xml.etree import ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "examples"))
import report_charts  # noqa: E402
import report_events  # noqa: E402
import report as demo_report  # noqa: E402

KEEP = None
STEP_S = 0.002


class Training:
    """Events as a job writes them whose processes die and are replaced: one step every 2 ms."""

    def __init__(self):
        self.t = 1000.0
        self.events = []
        self.members = [0, 1, 2, 3]
        self.epoch = 1
        self.step = 0
        for number in self.members:
            self.tell(number, "start", pid=500 + number, **self.place(number))

    def place(self, number):
        return {"epoch": self.epoch, "rank": self.members.index(number), "size": len(self.members)}

    def tell(self, number, event, delay=0.0, **fields):
        self.events.append({"event": event, "t": self.t + delay, "process": number, **fields})

    def steps(self, count):
        for _ in range(count):
            self.t += STEP_S
            self.step += 1
            for number in self.members:
                self.tell(number, "step", delay=number * 1e-5, step=self.step, loss=2.0 / self.step,
                          **self.place(number))

    def kill(self, number, role, recovery_s):
        self.tell(number, "kill", epoch=self.epoch, role=role, step=self.step + 1)
        self.members.remove(number)
        self.epoch += 1
        self.t += recovery_s
        for position, member in enumerate(self.members):
            self.tell(member, "view", delay=position * 1e-4, **self.place(member))
            self.tell(member, "result", delay=position * 1e-4, contributors=len(self.members), **self.place(member))

    def join(self, number):
        # Until it has entered, a newcomer sees what its donor sees.
        self.tell(number, "start", pid=500 + number, **self.place(self.members[0]))
        self.tell(number, "joining", **self.place(self.members[0]))
        self.members.append(number)
        self.epoch += 1
        self.tell(number, "entered", step=self.step, **self.place(number))
        for member in self.members:
            self.tell(member, "view", **self.place(member))

    def end(self):
        for number in self.members:
            self.tell(number, "end", pid=500 + number, hash="00", **self.place(number))


def training():
    job = Training()
    job.steps(400)
    job.kill(3, "worker", 0.004)
    job.steps(200)
    job.join(4)
    job.steps(300)
    job.kill(0, "coordinator", 0.006)
    job.steps(250)
    job.join(5)
    job.steps(350)
    job.end()
    return job


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.rows = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_data(self, data):
        if self.tables and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += data


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        job = training()
        cls.result = {"steps": 1500, "steps_missing": 0, "world_sizes": [4, 3, 4, 3, 4], "hashes_equal": True,
                      "survivor_pids_unchanged": True, "accuracy": 0.98, "accuracy_single": 0.979, "kills": []}
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(KEEP or folder)
            out.mkdir(exist_ok=True)
            lines = [json.dumps(event) for event in job.events]
            (out / "events.jsonl").write_text("\n".join(lines) + '\n{"event":"step","t":10')
            (out / "result.json").write_text(json.dumps(cls.result))
            cls.story = report_events.read(out / "events.jsonl")
            cls.text = demo_report.write(out).read_text(encoding="utf-8")
        cls.page = Page(cls.text)

    def test_views_follow_the_deaths_and_the_newcomers(self):
        self.assertEqual([size for _, _, size in self.story.views], [4, 3, 4, 3, 4])
        self.assertEqual([one.kind for one in self.story.interruptions], ["kill", "join", "kill", "join"])
        self.assertEqual([(one.size_before, one.size_after) for one in self.story.interruptions],
                         [(4, 3), (3, 4), (4, 3), (3, 4)])

    def test_every_step_counts_once(self):
        self.assertEqual([step for _, step, *_ in self.story.steps], list(range(1, 1501)))
        width = self.story.length / report_events.BINS
        self.assertAlmostEqual(sum(rate * width for *_, rate in self.story.throughput()), 1500, places=6)

    def test_a_recovery_lasts_until_the_last_survivor(self):
        kill = self.story.interruptions[0]
        self.assertEqual(sorted(kill.first_results), [0, 1, 2])
        self.assertAlmostEqual(kill.worst_ms, 4.2, places=3)
        self.assertAlmostEqual(kill.usual_ms, 2.0, places=3)
        self.assertGreater(kill.quiet_ms, 5.9)

    def test_processes_live_as_long_as_they_did(self):
        processes = self.story.processes
        self.assertEqual({number: one.founder for number, one in processes.items()},
                         {0: True, 1: True, 2: True, 3: True, 4: False, 5: False})
        self.assertEqual([number for number, one in processes.items() if one.killed], [0, 3])
        self.assertEqual([number for number, one in processes.items() if one.finished], [1, 2, 4, 5])

    def test_the_page_needs_nothing_else(self):
        for tag, attributes in self.page.tags:
            self.assertNotIn(tag, ("script", "link", "img", "iframe"))
            self.assertFalse({"src", "href"} & set(attributes), tag)
        self.assertNotRegex(self.text, r"url\(|@import|https?:")
        for feature in ("prefers-color-scheme: dark", "@media print"):
            self.assertIn(feature, self.text)

    def test_charts_are_sound(self):
        charts = re.findall(r"<svg.*?</svg>", self.text, re.DOTALL)
        self.assertEqual(len(charts), 1 + 4)
        for chart in charts:
            tree = ElementTree.fromstring(chart)
            self.assertEqual(tree.get("role"), "img")
            self.assertEqual(tree.find("title").get("id"), tree.get("aria-labelledby"))
            _, _, width, height = map(float, tree.get("viewBox").split())
            for element in tree.iter("circle"):
                self.assertTrue(0 <= float(element.get("cx")) <= width and 0 <= float(element.get("cy")) <= height)

    def test_tables_hold_the_same(self):
        interruptions, samples = self.page.tables
        self.assertEqual([row[4] for row in interruptions[1:]], ["4 \u2192 3", "3 \u2192 4"] * 2)
        self.assertEqual(len(samples), 41)
        self.assertEqual(samples[-1][1:4], ["1500", f"{2 / 1500:.5f}", "4"])
        self.assertEqual({row[3] for row in samples[1:]}, {"3", "4"})

    def test_the_headline(self):
        self.assertIn("<h1>2 processes killed, 2 newcomers taken in, no step lost</h1>", self.text)

    def test_a_job_without_interruptions_has_a_page(self):
        job = Training()
        job.steps(3)
        story = report_events.Story(job.events)
        self.assertIn("0 processes killed", demo_report.page(story, {}))
        self.assertIn("<svg", report_charts.timeline(story))

    def test_without_a_step_there_is_nothing_to_report(self):
        with self.assertRaisesRegex(ValueError, "no step"):
            report_events.Story(Training().events)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build")
    parser.add_argument("--keep", help="leave the page there")
    arguments, others = parser.parse_known_args()
    KEEP = arguments.keep
    unittest.main(verbosity=2, argv=[sys.argv[0], *others])
