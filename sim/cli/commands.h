// The commands of `strait`, one file each. Each takes its parsed arguments and returns the exit status of design section 5.1:
// 0 done, 1 the run failed, 2 the input is wrong, 130 interrupted.
#pragma once

#include <string>
#include <vector>

namespace strait::cli {

constexpr int kDone = 0, kFailed = 1, kWrongInput = 2, kInterrupted = 130;

// Thrown by commands for wrong input whose text is already complete.
struct WrongInput {
  std::string text;
};

struct RunArguments {
  std::string scenario, out;
  std::vector<std::string> set;
  long steps = 0;  // 0: as the scenario says
  bool resume = false;
  bool record_only = false;  // no simulation
  bool cache = true;         // of finished trainings
  bool quiet = false;
};

struct CalibrateArguments {
  std::string backend = "auto", out = "device.json";
  int threads = 0;       // of the cpu backend; 0: all
  double seconds = 0.2;  // for each op
};

struct VerifyArguments {
  std::string run;
  bool quiet = false;
};

struct CrosscheckArguments {
  std::vector<std::string> runs;
  std::string models, out;  // `models`: comma-separated
  long steps = 0;           // only the first ones; 0: all
};

struct ExportArguments {
  std::string run, format, out;
  long checkpoint = -1;  // its step; -1: the newest
};

struct PlotArguments {
  std::vector<std::string> directories;  // of runs and sweeps, drawn as one comparison
  std::string out, format = "svg";
};

struct ReplayArguments {
  std::string run, out;
  std::vector<std::string> set;
  bool quiet = false;
};

struct SweepArguments {
  std::string sweep, out;
  std::string launcher = "local";
  int jobs = 0;  // 0: local: the cores; slurm: no limit
  bool dry_run = false;
  bool quiet = false;
};

struct PruneArguments {
  bool all = false;
  double older_than_days = -1;  // -1: not asked for
  std::string keep;             // a size with its unit, "" for not asked for
};

int validate_command(const std::vector<std::string>& files);
int schema_command(const std::string& what);
int info_command();
int calibrate_command(const CalibrateArguments& arguments);
int show_command(const std::string& scenario, const std::vector<std::string>& set);
int run_command(RunArguments arguments);
int replay_command(const ReplayArguments& arguments);
int sweep_command(const SweepArguments& arguments);
int cache_list_command();
int cache_prune_command(const PruneArguments& arguments);
int verify_command(const VerifyArguments& arguments);
int crosscheck_command(const CrosscheckArguments& arguments);
int export_command(const ExportArguments& arguments);
// Becomes another program; returns never.
int plot_command(const PlotArguments& arguments);
int corpus_list_command();
int corpus_fetch_command(const std::string& name);

}  // namespace strait::cli
