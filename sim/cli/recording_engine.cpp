#include <chrono>

#include "sim/cli/engine_bridge.h"
#include "sim/cli/recording.h"
#include "sim/record/writer.h"
#include "sim/trace/output_file.h"
#include "strait_version.h"

namespace strait::cli {

Recording train_into(const std::filesystem::path& directory, const scenario::Scenario& scenario,
                     const TrainingConfig& config, BackendKind kind, const BatchSource* data,
                     const std::string& data_hash, const std::vector<RankPlan>& plan,
                     const std::function<void(const record::StepLog&)>& on_step,
                     const std::function<bool()>& stop) {
  record::RecordWriter writer((directory / "record" / "log.strait").string());
  writer.write(make_header(config, kind, plan, "strait " STRAIT_VERSION " (" STRAIT_GIT_COMMIT ")",
                           scenario::record_hash(scenario)));
  TrainingObserver observer;
  observer.step = [&](const record::StepLog& step) {
    writer.write(step);
    if (on_step) on_step(step);
  };
  observer.evaluation = [&](const record::Evaluation& e) { writer.write(e); };
  observer.diagnostic = [&](const record::Diagnostic& d) { writer.write(d); };
  observer.stop = stop;
  const auto start = std::chrono::steady_clock::now();
  Recording r;
  r.result = train(config, kind, data, host_threads(scenario), observer);
  r.host_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!r.result.stopped)
    writer.write(
        record::RecordFooter{r.result.steps, r.host_seconds, r.result.parameters_hash, data_hash});
  return r;
}

void write_scenario(const std::filesystem::path& directory, const scenario::Scenario& scenario) {
  sim::write_whole_file((directory / "scenario.json").string(),
                        scenario::to_json(scenario).dump(2) + "\n");
}

}  // namespace strait::cli
