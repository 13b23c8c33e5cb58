// What a sweep will do and what has come of it: trainings shared by hash, the replayable fields of a
// scenario, rows of runs.csv by hand, and the scripts for Slurm.
#include "sim/sweep/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "sim/record/sha256.h"
#include "sim/sweep/replayable.h"
#include "sim/sweep/run_table.h"
#include "sim/sweep/slurm_script.h"
#include "sim/sweep/work.h"
#include "tests/sim/record_file.h"
#include "tests/sweep/sweep_text.h"

namespace strait::sweep {
namespace {

namespace fs = std::filesystem;
using strait::testing::read_file;
using strait::testing::TemporaryDirectory;
using strait::testing::write_file;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

scenario::Scenario base_scenario() {
  return *scenario::parse_scenario(base_text, "base.json").scenario;
}

// As the engine would: the backend that runs, the vocabulary of the data.
ResolvedTraining resolve(const scenario::Scenario& written) {
  ResolvedTraining training;
  training.scenario = written;
  training.scenario.devices.backend = scenario::Backend::cpu;
  training.scenario.model.vocabulary = 2048;
  training.training_seconds = 60;
  training.replay_seconds = 1;
  training.bytes_per_step = 1'000'000;
  training.messages_per_step = 10;
  return training;
}

Plan plan_of(const std::string& rest, const Resolver& resolver = resolve) {
  const SweepResult parsed = parse_rest(rest);
  EXPECT_TRUE(parsed.ok()) << parsed.text();
  Points points = expand(*parsed.sweep);
  EXPECT_EQ(points.text(), "");
  return make_plan(*parsed.sweep, std::move(points.points), resolver);
}

const std::string grid = "\"axes\": {" + methods + ", " + bandwidths + ", \"seed\": [1, 2]}";

TEST(Plan, TrainsEachDistinctRecordOnce) {
  int asked = 0;
  const Plan plan = plan_of(grid, [&](const scenario::Scenario& s) {
    ++asked;
    return resolve(s);
  });
  EXPECT_EQ(asked, 4);
  ASSERT_EQ(plan.trainings.size(), 4U);
  ASSERT_EQ(plan.points.size(), 8U);
  for (const PlannedPoint& point : plan.points) {
    EXPECT_EQ(scenario::record_hash(point.scenario), plan.trainings[point.training].record_hash);
    EXPECT_EQ(point.scenario.model.vocabulary, 2048);
    EXPECT_EQ(point.scenario_hash, sha256_hex(scenario::to_json(point.scenario).dump()));
  }
  EXPECT_EQ(plan.points[0].training, plan.points[2].training);  // other bandwidth
  EXPECT_NE(plan.points[0].training, plan.points[1].training);  // other seed
  EXPECT_EQ(plan.training_seconds(), 240);
  EXPECT_EQ(plan.replay_seconds(), 8);
}

TEST(Plan, JoinsTrainingsThatBecomeTheSameWhenResolved) {
  const Plan plan = plan_of(R"("axes": {"devices.backend": ["auto", "cpu"]})");
  EXPECT_EQ(plan.points.size(), 2U);
  EXPECT_EQ(plan.trainings.size(), 1U);
}

TEST(Plan, CountsNoTimeForWhatIsInTheCache) {
  const Plan plan = plan_of(grid, [](const scenario::Scenario& s) {
    ResolvedTraining training = resolve(s);
    training.cached = s.seed == 1;
    return training;
  });
  EXPECT_EQ(plan.training_seconds(), 120);
}

TEST(Plan, PredictsThePacketModelByItsPackets) {
  const Plan plan =
      plan_of(R"("axes": {"network.model": ["packet"], "training.steps": [100, 200]})");
  EXPECT_GT(plan.points[1].seconds, 1.8 * plan.points[0].seconds);
}

TEST(Replayable, OnlyFieldsThatLeaveTheRecordAloneMayChange) {
  const scenario::Scenario recorded = base_scenario();
  scenario::Scenario wanted = recorded;
  wanted.network.links.bandwidth.count = 5;
  wanted.network.model = sim::NetworkModel::ideal;
  wanted.devices.timing.device.name = "H100";
  wanted.devices.ranks.push_back({1, std::nullopt, 2.0});
  wanted.output.messages = scenario::MessageLog::all;
  wanted.training.targets = {1};
  EXPECT_TRUE(record_changes(recorded, wanted).empty());
  wanted.seed = 7;
  wanted.training.optimizer.lr = 0.5;
  wanted.parallel.schedule = scenario::PipelineSchedule::gpipe;
  wanted.model.layers = 9;
  const auto changes = record_changes(recorded, wanted);
  std::vector<std::string> paths;
  for (const RecordChange& change : changes) paths.push_back(change.path);
  EXPECT_THAT(paths,
              ElementsAre("seed", "model.layers", "training.optimizer.lr", "parallel.schedule"));
  EXPECT_EQ(changes[0].recorded, "1");
  EXPECT_EQ(changes[0].wanted, "7");
  EXPECT_EQ(changes[1].recorded, "nothing");
}

// Whatever the tables say: a difference in the hash and one in the list go together.
TEST(Replayable, AgreesWithTheRecordHash) {
  const scenario::Scenario recorded = base_scenario();
  for (const char* assignment :
       {"seed=2", "network.seed=2", "devices.precision=bf16", "devices.timing=measured",
        "training.targets=[1]", "training.evaluate_every=5", "output.diagnose_every=3",
        "output.timeline_steps=[1,1]", "network.preset=cloud-16g", "name=x"}) {
    const std::vector<std::string> set = {assignment};
    const auto result = scenario::parse_scenario(base_text, "base.json", set);
    ASSERT_TRUE(result.ok()) << result.text();
    EXPECT_EQ(record_changes(recorded, *result.scenario).empty(),
              scenario::record_hash(recorded) == scenario::record_hash(*result.scenario))
        << assignment;
  }
}

TEST(Replayable, JoinsTheRecordedScenarioWithTheWantedNetwork) {
  scenario::Scenario recorded = resolve(base_scenario()).scenario;
  scenario::Scenario wanted = base_scenario();
  wanted.name = "point";
  wanted.network.links.bandwidth.count = 123'000;
  wanted.training.targets = {2};
  wanted.devices.timing.device.name = "L4";
  const scenario::Scenario joined = with_replayable_fields(recorded, wanted);
  EXPECT_EQ(scenario::record_hash(joined), scenario::record_hash(recorded));
  EXPECT_EQ(joined.name, "point");
  EXPECT_EQ(joined.network.links.bandwidth.count, 123'000U);
  EXPECT_THAT(joined.training.targets, ElementsAre(2));
  EXPECT_EQ(joined.devices.timing.device.name, "L4");
  EXPECT_EQ(joined.devices.backend, scenario::Backend::cpu);
}

TEST(Replayable, ListsWholeObjectsByTheirName) {
  const auto paths = replayable_paths();
  EXPECT_THAT(paths, ::testing::IsSupersetOf({"network", "devices.timing", "devices.ranks",
                                              "training.targets", "output.messages"}));
  for (const std::string& path : paths) {
    EXPECT_NE(path, "seed");
    EXPECT_FALSE(path.starts_with("network.")) << path;
  }
}

Json summary_of(const PlannedPoint& point) {
  Json traffic = {{"wire_ratio", 7.5}};
  return {
      {"complete", true},
      {"steps", point.scenario.training.steps},
      {"tokens", 800},
      {"final_loss", 4.25},
      {"final_validation_loss", nullptr},
      {"best_validation_loss", nullptr},
      {"time_s", 12.000000001},
      {"mean_step_s", 0.12},
      {"tokens_per_s", 66.5},
      {"bytes", {{"forward", 10}, {"backward", 20}, {"sync", 30}}},
      {"wire",
       {{"pipeline",
         {{"forward", traffic}, {"backward", {{"wire_ratio", nullptr}}}, {"combined", traffic}}}}},
      {"targets", {{{"loss", 5.0}, {"time_s", 3.5}}, {{"loss", 4.5}, {"time_s", "not reached"}}}},
      {"hashes", {{"scenario", point.scenario_hash}}},
      {"host", {{"simulation_s", 99.0}}}};
}

TEST(RunTable, HasOneRowAPointInTheOrderOfThePlanWhateverCameFirst) {
  const TemporaryDirectory folder;
  const Plan plan = plan_of("\"axes\": {" + bandwidths + ", " + methods + "}");
  RunTable table(plan, folder.file("runs.csv"));
  table.set(2, {summary_of(plan.points[2]), ""});
  table.set(0, {nullptr, "no, \"really\" not"});
  table.write();
  EXPECT_EQ(table.known(), 2U);
  EXPECT_EQ(table.failed(), 1U);
  EXPECT_EQ(
      read_file(folder.file("runs.csv")),
      "point,network.links.bandwidth,method,seed,status,steps,tokens,final_loss,final_validation_"
      "loss,best_validation_loss,time_s,time_to_5_s,time_to_4.5_s,tokens_per_s,mean_step_s,wire_"
      "ratio_forward,wire_ratio_backward,wire_ratio,bytes_forward,bytes_backward,bytes_sync,path\n"
      "80Mbps_none,80Mbps,none,1,\"no, \"\"really\"\" not\",,,,,,,,,,,,,,,,,runs/80Mbps_none\n"
      "1Gbps_none,1Gbps,none,1,ok,100,800,4.25,,,12.000000001,3.5,not reached,66.5,0.12,7.5,,7.5,"
      "10,20,30,runs/1Gbps_none\n");
  EXPECT_FALSE(fs::exists(folder.file("runs.csv.tmp")));
}

TEST(RunTable, TakesOnlySummariesOfTheWholeRunOfThisScenario) {
  const TemporaryDirectory folder;
  const Plan plan = plan_of(grid);
  const PlannedPoint& point = plan.points[0];
  const auto taken = [&](const Json& summary) {
    write_file(folder.file("summary.json"), summary.dump());
    return !finished_summary(folder.path(), point).is_null();
  };
  EXPECT_TRUE(finished_summary(folder.path(), point).is_null());
  EXPECT_TRUE(taken(summary_of(point)));
  EXPECT_FALSE(taken(summary_of(plan.points[1])));
  for (const char* patch : {R"({"complete": false})", R"({"steps": 99})", R"({"hashes": null})"}) {
    Json summary = summary_of(point);
    summary.merge_patch(Json::parse(patch));
    EXPECT_FALSE(taken(summary)) << patch;
  }
  EXPECT_FALSE(taken("text"));
}

TEST(Work, PointsAreMadeAnewWithALinkToTheirRecord) {
  const TemporaryDirectory folder;
  const Plan plan = plan_of(grid);
  const SweepDirectory directory{folder.path()};
  const PlannedPoint& point = plan.points[3];
  const PlannedTraining& training = plan.trainings[point.training];
  fs::create_directories(directory.run(point));
  write_file((directory.run(point) / "summary.json").string(), "old");
  fs::create_directories(directory.training(training) / "record");
  write_file((directory.training(training) / "record/log.strait").string(), "record");
  prepare_point(directory, plan, point);
  EXPECT_FALSE(fs::exists(directory.run(point) / "summary.json"));
  EXPECT_EQ(read_file((directory.run(point) / "record/log.strait").string()), "record");
  const auto scenario = scenario::load_scenario((directory.run(point) / "scenario.json").string());
  ASSERT_TRUE(scenario.ok());
  EXPECT_EQ(sha256_hex(scenario::to_json(*scenario.scenario).dump()), point.scenario_hash);
}

TEST(Work, ErrorsAreOneLineWithoutPlaces) {
  const TemporaryDirectory folder;
  const SweepDirectory directory{folder.path()};
  const std::string file = folder.file("errors");
  EXPECT_EQ(error_text(directory, file), "");
  write_file(file,
             "strait-sim: " + folder.path() + "/trainings/k/log.strait: damaged\n\nat byte 3\n");
  EXPECT_EQ(error_text(directory, file), "trainings/k/log.strait: damaged; at byte 3");
  const SweepDirectory relative{"b"};
  write_file(file,
             "strait: b/runs/x and a/b/y and \"b/z\" in " + fs::absolute("b").string() + "/w\n");
  EXPECT_EQ(error_text(relative, file), "runs/x and a/b/y and \"z\" in w");
  write_file(file, std::string(5000, 'x'));
  EXPECT_LT(error_text(directory, file).size(), 500U);
  std::string accents = "x";
  for (int i = 0; i < 1000; ++i) accents += "é";
  write_file(file, accents);
  EXPECT_TRUE(scenario::valid_utf8(error_text(directory, file)));
  write_file(file, "x" + accents);
  EXPECT_TRUE(scenario::valid_utf8(error_text(directory, file)));
  EXPECT_EQ(status_text(137), "killed by signal 9");
  EXPECT_EQ(status_text(2), "ended with status 2");
}

TEST(SlurmScript, IsPlainBashWithOneTaskForEachTraining) {
  const Plan plan = plan_of(grid);
  const SweepDirectory directory{"/data/o'neill sweeps/x"};
  const SlurmOptions options{{"/opt/strait", "/opt/strait-sim"}, "/home/me", 3};
  const std::string trainings = trainings_script(directory, plan, {0, 2, 3}, options);
  EXPECT_THAT(trainings, HasSubstr("#SBATCH --array=0-2%3\n"));
  EXPECT_THAT(trainings, HasSubstr("sweep='/data/o'\\''neill sweeps/x'\n"));
  EXPECT_THAT(trainings, HasSubstr("  " + plan.trainings[3].key + "\n"));
  EXPECT_EQ(trainings.find(plan.trainings[1].key), std::string::npos);
  const std::string replays = replays_script(directory, plan, {5}, options);
  EXPECT_THAT(replays, HasSubstr("#SBATCH --array=0-0%3\n"));
  EXPECT_THAT(replays, HasSubstr("'" + plan.trainings[plan.points[5].training].key + " " +
                                 plan.points[5].name + "'\n"));
  const TemporaryDirectory folder;
  for (const std::string& script : {trainings, replays}) {
    write_file(folder.file("script.sh"), script);
    EXPECT_EQ(std::system(("bash -n " + folder.file("script.sh")).c_str()), 0) << script;
  }
}

TEST(SlurmScript, ManyPointsShareTheTasksOfAnArray) {
  std::string seeds;
  for (int s = 0; s < 1200; ++s) seeds += (s == 0 ? "" : ", ") + std::to_string(s);
  const Plan plan = plan_of("\"axes\": {\"network.seed\": [" + seeds + "]}");
  std::vector<size_t> all(plan.points.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  const std::string script = replays_script({"/x"}, plan, all, {});
  EXPECT_THAT(script, HasSubstr("--array=0-999\n"));
  EXPECT_THAT(script, HasSubstr("i += 1000"));
}

}  // namespace
}  // namespace strait::sweep
