"""The figures of a comparison, one file each. Each file has `numbers(sweep)`, the data frame that is drawn, and `make(sweep)`,
the figure with it; both raise NotApplicable where the comparison lacks what they need."""

from . import (loss_over_time, loss_over_wire_ratio, paired_differences, pipeline_grid, rank_time, ratios, step_attribution,
               time_to_target)
from .common import Drawn, NotApplicable

# In the order of a report.
FIGURES = {module.__name__.rpartition(".")[2]: module.make for module in (
    loss_over_time, time_to_target, loss_over_wire_ratio, paired_differences, step_attribution, ratios, rank_time, pipeline_grid)}

__all__ = ["FIGURES", "Drawn", "NotApplicable", "loss_over_time", "loss_over_wire_ratio", "paired_differences", "pipeline_grid",
           "rank_time", "ratios", "step_attribution", "time_to_target"]
