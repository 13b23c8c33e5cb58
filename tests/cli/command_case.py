"""What tests of the command line share: a folder of their own with a corpus and a cache, and the program in it as a user meets it. Needs
no network. The first argument of such a test is the path of strait."""
import csv
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

STRAIT = pathlib.Path(sys.argv.pop(1)).resolve()
WORDS = "the sea was calm and the ship went slowly over the strait while the crew slept under a pale moon".split()


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="strait test "))
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.corpus = self.folder / "corpus.txt"
        self.corpus.write_text("\n".join(" ".join(WORDS[(i * j) % len(WORDS)] for j in range(1, 12)) for i in range(1, 400)))
        self.environment = dict(os.environ, STRAIT_CACHE=str(self.folder / "cache"))

    def strait(self, *arguments, **variables):
        return subprocess.run([STRAIT, *map(str, arguments)], cwd=self.folder, env=self.environment | variables, capture_output=True,
                              text=True, stdin=subprocess.DEVNULL, timeout=300)

    def ok(self, *arguments, **variables):
        """What it said."""
        done = self.strait(*arguments, **variables)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def start(self, *arguments, **variables):
        return subprocess.Popen([STRAIT, *map(str, arguments)], cwd=self.folder, env=self.environment | variables,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_for(self, condition, process):
        deadline = time.monotonic() + 60
        while not condition():
            self.assertIsNone(process.poll(), "it ended too early")
            self.assertLess(time.monotonic(), deadline, "it does not get there")
            time.sleep(0.01)

    def interrupt(self, process, status=130):
        """What it said until Ctrl-C and after it."""
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, status, output + errors)
        return output

    def rows(self, path):
        with open(path, newline="") as file:
            return list(csv.DictReader(file))
