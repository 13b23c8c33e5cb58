"""What the seeds of a comparison say: means with their range, paired differences between methods with Student t intervals, and
Pareto fronts. With one seed there is no interval, and none is made up."""

import math

import numpy
import pandas

CONFIDENCE = 0.95


def student_t_cdf(t: float, freedom: int) -> float:
    """P(T <= t) for a whole number of degrees of freedom: the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan2(abs(t), math.sqrt(freedom))
    cosine = math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(freedom // 2):
        total += term
        term *= cosine * cosine * ((2 * k + 2) / (2 * k + 3) if odd else (2 * k + 1) / (2 * k + 2))
    within = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return 0.5 + math.copysign(within / 2, t)


def student_t_quantile(probability: float, freedom: int) -> float:
    """The t with P(T <= t) = probability, 0.5 <= probability < 1, by bisection to the last bit."""
    low, high = 0.0, 1.0
    while student_t_cdf(high, freedom) < probability:
        low, high = high, 2 * high
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return high
        low, high = (middle, high) if student_t_cdf(middle, freedom) < probability else (low, middle)


def mean_interval(values, confidence: float = CONFIDENCE) -> tuple[float, float, float, int]:
    """(mean, low, high, n) of a sample; low and high, the Student t interval of the mean, are nan below two values."""
    values = numpy.asarray(values, dtype=float)
    n = len(values)
    if n == 0:
        return math.nan, math.nan, math.nan, 0
    mean = float(values.mean())
    if n == 1:
        return mean, math.nan, math.nan, 1
    half = student_t_quantile((1 + confidence) / 2, n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return mean, mean - half, mean + half, n


def interval_over_seeds(values: pandas.Series) -> tuple[float, float, float, int]:
    """mean_interval of values whose index names their seeds. Values that share a seed of either kind are not independent: so for each
    kind the means over the other one are the sample, and the wider of the two intervals counts, with its n."""
    samples = [values.groupby(level=level).mean() for level in range(values.index.nlevels)]
    intervals = [mean_interval(sample) for sample in samples if len(sample) > 1]
    return max(intervals, key=lambda interval: interval[2] - interval[1]) if intervals else mean_interval(values)


def over_seeds(frame: pandas.DataFrame, keys: list[str], value: str) -> pandas.DataFrame:
    """Mean, lowest, highest and n (seeds) of a column for each combination of the keys, in order of appearance; nan left out."""
    groups = frame.dropna(subset=[value]).groupby(keys, sort=False, dropna=False)[value]
    result = groups.agg(["mean", "min", "max", "count"]).reset_index()
    return result.rename(columns={"min": "lowest", "max": "highest", "count": "n"})


PAIR_COLUMNS = ["quantity", "network", "condition", "bandwidth_bps", "method", "reference", "compared", "estimate", "low", "high", "n",
                "unreached"]


def paired_differences(sweep) -> pandas.DataFrame:
    """Every two methods, compared seed by seed.

    A loss is compared by its difference, method less reference. It does not depend on the network, so the seeds of the numerics
    are the sample, each with its mean over networks. A time is compared by its ratio, method over reference, on each network:
    the interval is that of the mean of logarithms, over the seeds of the numerics or of the network (interval_over_seeds). A pair
    counts where both have reached the target, later than at the start; `unreached` says how many pairs had one that had not.
    Columns: PAIR_COLUMNS; low and high are nan where n is 1: no interval."""
    runs = sweep.runs[sweep.runs["finished"] & ~sweep.runs["comparison"]]
    rows = []
    if runs["final_validation_loss"].notna().any():
        losses = runs.groupby(["method", "seed"], sort=False)["final_validation_loss"].mean().reset_index()
        losses["network"], losses["condition"], losses["bandwidth_bps"] = "any", "", math.nan
        rows += _pairs(sweep, losses, "final validation loss", "final_validation_loss", ["seed"], "difference")
    rows += _pairs(sweep, runs, "mean step time", "mean_step_s", ["seed", "network_seed"], "ratio")
    targets = sweep.targets
    targets = targets[targets["finished"]] if len(targets) else targets
    for target in sorted(targets["target"].unique(), reverse=True) if len(targets) else []:
        name = f"time to loss {target:g}"
        rows += _pairs(sweep, targets[targets["target"] == target], name, "time_s", ["seed", "network_seed"], "ratio")
    return pandas.DataFrame(rows, columns=PAIR_COLUMNS)


def _pairs(sweep, frame: pandas.DataFrame, quantity: str, value: str, unit: list[str], compared: str) -> list[tuple]:
    rows = []
    networks = [name for name in (*sweep.networks, "any") if name in set(frame["network"])]
    for network in networks:
        here = frame[frame["network"] == network]
        samples = {method: group.groupby(unit)[value].mean() for method, group in here.groupby("method", sort=False)}
        methods = [method for method in sweep.methods if method in samples]
        for first, reference in enumerate(methods):
            for method in methods[first + 1:]:
                both = pandas.concat([samples[method], samples[reference]], axis=1, join="inner", keys=["a", "b"])
                missing = both.isna().any(axis=1)
                if len(both):
                    rows.append((quantity, network, *here.iloc[0][["condition", "bandwidth_bps"]], method, reference, compared,
                                 *_compare(both[~missing], compared), int(missing.sum())))
    return rows


def _compare(pairs: pandas.DataFrame, compared: str) -> tuple[float, float, float, int]:
    if compared == "difference":
        return interval_over_seeds(pairs["a"] - pairs["b"])
    later = pairs[(pairs > 0).all(axis=1)]  # a target reached before the first step has no ratio
    mean, low, high, n = interval_over_seeds(numpy.log(later["a"] / later["b"]))
    return math.exp(mean), math.exp(low), math.exp(high), n


def pareto_front(ratio, loss) -> list[bool]:
    """Which points no other point beats: no less compression, no more loss, and better in one of the two."""
    points = list(zip(ratio, loss))
    return [not any(r >= a and l <= b and (r > a or l < b) for r, l in points) for a, b in points]
