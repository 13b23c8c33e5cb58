"""The statistics of strait_analysis against published tables and cases worked out by hand."""

import math
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import pandas

SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "analysis"))

import synthetic  # noqa: E402
from strait_analysis import load_sweep, paired_differences  # noqa: E402
from strait_analysis.statistics import interval_over_seeds, mean_interval, pareto_front, student_t_cdf, student_t_quantile  # noqa: E402


class StudentT(unittest.TestCase):
    def test_quantiles_are_those_of_the_printed_tables(self):
        for freedom, t in ((1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (10, 2.228), (30, 2.042), (120, 1.980)):
            self.assertAlmostEqual(student_t_quantile(0.975, freedom), t, delta=0.0005)  # tables have three decimals
        self.assertAlmostEqual(student_t_quantile(0.995, 4), 4.604, delta=0.0005)

    def test_one_and_two_degrees_of_freedom_have_closed_forms(self):
        for t in (-3.0, -0.5, 0.0, 0.1, 2.0, 50.0):
            self.assertAlmostEqual(student_t_cdf(t, 1), 0.5 + math.atan(t) / math.pi, places=12)
            self.assertAlmostEqual(student_t_cdf(t, 2), 0.5 + t / (2 * math.sqrt(2 + t * t)), places=12)

    def test_the_interval_of_a_mean(self):
        # 1, 2, 3: standard deviation 1, half width 4.303 / sqrt(3).
        mean, low, high, n = mean_interval([1.0, 2.0, 3.0])
        self.assertEqual((mean, n), (2.0, 3))
        self.assertAlmostEqual(high - mean, 4.3027 / math.sqrt(3), places=4)
        self.assertAlmostEqual(mean - low, high - mean)

    def test_one_value_has_no_interval(self):
        mean, low, high, n = mean_interval([5.0])
        self.assertEqual((mean, n), (5.0, 1))
        self.assertTrue(math.isnan(low) and math.isnan(high))

    def test_values_that_share_a_seed_do_not_count_as_independent(self):
        # The network's seed alone makes 1, 2, 3; the three seeds of the numerics repeat it. Nine values, but a sample of three:
        # half width 4.303 / sqrt(3), not 2.306 * 0.866 / 3.
        index = pandas.MultiIndex.from_product([(1, 2, 3), (7, 8, 9)], names=["seed", "network_seed"])
        values = pandas.Series([1.0, 2.0, 3.0] * 3, index=index)
        for series in (values, values.swaplevel()):
            mean, low, high, n = interval_over_seeds(series)
            self.assertEqual((mean, n), (2.0, 3))
            self.assertAlmostEqual(high - mean, 4.3027 / math.sqrt(3), places=4)


class Pairs(unittest.TestCase):
    def setUp(self):
        folder = Path(tempfile.mkdtemp(prefix="strait analysis "))
        self.addCleanup(shutil.rmtree, folder)
        synthetic.write_sweep(folder / "sweep")
        self.pairs = paired_differences(load_sweep(folder / "sweep"))

    def pair(self, quantity, network):
        (row,) = self.pairs[(self.pairs["quantity"] == quantity) & (self.pairs["network"] == network)].itertuples()
        return row

    def test_losses_differ_by_the_mean_over_seeds_whatever_the_seeds_themselves_do(self):
        # Differences 0.098, 0.1, 0.102: standard deviation 0.002. The seeds' own spread, 0.01 each, is not in it; nor do the
        # two networks, with the same losses, count as six seeds.
        row = self.pair("final validation loss", "any")
        self.assertEqual((row.method, row.reference, row.n), ("subspace 4x", "none", 3))
        self.assertAlmostEqual(row.estimate, 0.1, places=9)
        self.assertAlmostEqual(row.high - row.estimate, 4.3027 * 0.002 / math.sqrt(3), places=6)

    def test_times_are_compared_by_their_ratio_on_each_network(self):
        self.assertAlmostEqual(self.pair("mean step time", "80 Mbps").estimate, 0.25, places=9)
        self.assertAlmostEqual(self.pair("mean step time", "1 Gbps").estimate, 0.5, places=9)

    def test_pairs_that_have_not_both_reached_a_target_are_counted_apart(self):
        self.assertEqual((self.pair("time to loss 5", "80 Mbps").n, self.pair("time to loss 5", "80 Mbps").unreached), (3, 0))
        row = self.pair("time to loss 4.05", "80 Mbps")
        self.assertEqual((row.n, row.unreached), (0, 3))
        self.assertTrue(math.isnan(row.estimate))


class Pareto(unittest.TestCase):
    def test_the_front_has_the_points_that_none_beats(self):
        self.assertEqual(pareto_front([1, 4, 8, 8, 16], [4.0, 4.1, 4.05, 4.2, 4.3]), [True, False, True, False, True])

    def test_equal_points_are_both_on_it(self):
        self.assertEqual(pareto_front([2, 2], [4.0, 4.0]), [True, True])


if __name__ == "__main__":
    unittest.main()
