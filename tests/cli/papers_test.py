#!/usr/bin/env python3
"""Every scenario of scenarios/papers takes as long a step as the table in its README says, and as long as was published where a step time was.
Usage: papers_test.py PATH_OF_STRAIT [unittest arguments]"""
import pathlib
import re
import unittest

import command_case

PAPERS = pathlib.Path(__file__).resolve().parents[2] / "scenarios/papers"
ROW = re.compile(r"^\| `(?P<file>[\w.]+\.json)` \| (?P<published>[^|]*) \| (?P<own>[\d.]+) s \|", re.MULTILINE)


class Papers(command_case.Case):
    def step_seconds(self, file):
        """Mean over the steps after the first, whose connections are cold; of copies that average their parameters now and then, between two averages."""
        averages = '"mode": "parameters"' in (PAPERS / file).read_text()
        few = ["--set", "training.steps=4", "--set", "training.optimizer.warmup_steps=0"] if averages else []
        self.ok("run", PAPERS / file, "--out", file, "--quiet", "--set", "output.compare_networks=[]", *few)
        ends = [float(row["time_s"]) for row in self.rows(self.folder / file / "steps.csv")]
        if averages:
            ends.pop()  # the last step averages, too
        return (ends[-1] - ends[0]) / (len(ends) - 1)

    def test_steps_take_what_the_readme_says(self):
        rows = list(ROW.finditer((PAPERS / "README.md").read_text()))
        self.assertEqual(sorted(row["file"] for row in rows), sorted(path.name for path in PAPERS.glob("*.json")))
        for row in rows:
            with self.subTest(row["file"]):
                seconds = self.step_seconds(row["file"])
                digits = len(row["own"].partition(".")[2])
                self.assertEqual(f"{seconds:.{digits}f}", row["own"])
                published = re.fullmatch(r"([\d.]+) s", row["published"].strip())
                if published:  # from the causes that the README lists; 3 % is what the recurrence of the links and equal microbatches leave open
                    self.assertAlmostEqual(seconds / float(published[1]), 1, delta=0.03)

    def test_both_settings_of_the_pair_have_a_published_step_time(self):
        published = {row["file"]: row["published"].strip() for row in ROW.finditer((PAPERS / "README.md").read_text())}
        self.assertEqual(published["protocol_nanogpt_dense.json"], "100.475 s")
        self.assertEqual(published["protocol_nanogpt_ssn.json"], "19.889 s")


if __name__ == "__main__":
    unittest.main(verbosity=2)
