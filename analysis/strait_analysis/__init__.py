"""Run and sweep directories of Strait as tidy data frames and figures (docs/analysis.md).

    from strait_analysis import FIGURES, load_run, load_sweep
    run = load_run("runs/quickstart")
    run.steps[["time_s", "loss"]]
    sweep = load_sweep("sweeps/bandwidth_ratio")
    sweep.runs.groupby(["method", "network"])["mean_step_s"].mean()
    FIGURES["time_to_target"](sweep).figure
"""

from .figures import FIGURES, NotApplicable
from .files import InputError
from .report import write_report
from .run import Run, load_run
from .statistics import paired_differences
from .sweep import Sweep, load_sweep

__all__ = ["FIGURES", "InputError", "NotApplicable", "Run", "Sweep", "load_run", "load_sweep", "paired_differences", "write_report"]
