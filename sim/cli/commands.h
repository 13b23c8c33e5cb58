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
  bool quiet = false;
};

int validate_command(const std::vector<std::string>& files);
int schema_command(const std::string& what);
int info_command();
int show_command(const std::string& scenario, const std::vector<std::string>& set);
int run_command(const RunArguments& arguments);
int corpus_list_command();
int corpus_fetch_command(const std::string& name);

}  // namespace strait::cli
