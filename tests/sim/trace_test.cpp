// The files of a run directory: columns and rows by hand, sums, the same bytes twice, a timeline
// that viewers open, and the summary's figures.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "sim/trace/names.h"
#include "sim/trace/output_file.h"
#include "sim/trace/replay.h"
#include "tests/sim/log_builder.h"
#include "tests/sim/record_file.h"

namespace strait::sim {
namespace {

using namespace strait::testing;
using Json = nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> lines_of(const std::string& path) {
  std::istringstream text(read_file(path));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

// A CSV file as rows of column name -> cell.
std::vector<std::map<std::string, std::string>> table_of(const std::string& path) {
  const auto lines = lines_of(path);
  const auto cells = [](const std::string& line) {
    std::vector<std::string> parts;
    std::istringstream in(line);
    for (std::string cell; std::getline(in, cell, ',');) parts.push_back(cell);
    return parts;
  };
  const auto names = cells(lines.at(0));
  std::vector<std::map<std::string, std::string>> rows;
  for (size_t i = 1; i < lines.size(); ++i) {
    const auto parts = cells(lines[i]);
    EXPECT_EQ(parts.size(), names.size()) << lines[i];
    auto& row = rows.emplace_back();
    for (size_t c = 0; c < parts.size(); ++c) row[names[c]] = parts[c];
  }
  return rows;
}

// Seconds with nine decimals back to nanoseconds, exactly.
int64_t nanoseconds(std::string text) {
  text.erase(text.find('.'), 1);
  return std::stoll(text);
}

// 4 stages, 4 microbatches, 6 steps of GPipe with a codec over 80 Mbps and 20 ms.
std::vector<Frame> pipeline_record(int steps = 6) {
  std::vector<Frame> frames = record_of(make_header(4), Evaluation{0, 0, 6.0});
  for (int s = 1; s <= steps; ++s) {
    add_frame(frames, pipeline_step(4, 4, {3'000'000, 6'000'000, 1'000'000, 10'000, 200'000},
                                    gpipe_order, s));
    if (s % 2 == 0) add_frame(frames, Evaluation{s, static_cast<uint64_t>(100 * s), 6.0 / s});
  }
  add_frame(frames, Diagnostic{2, 1, "residual", 0.125});
  add_frame(frames, RecordFooter{steps, 3.5, "p", "d"});
  return frames;
}

TraceOptions options_for(const std::string& directory) {
  TraceOptions options;
  options.directory = directory;
  options.name = "test";
  options.network_model = "ideal";
  options.timeline_last = 2;
  return options;
}

Json replay(const std::vector<Frame>& frames, const TraceOptions& options,
            NetworkConfig config = ideal_config(80'000'000, 20'000'000)) {
  const auto& header = std::get<RecordHeader>(frames.front());
  const int ranks = static_cast<int>(header.ranks.size());
  const auto network = make_ideal(config, ranks);
  Replay replay(header, measured_devices(ranks), *network, options);
  for (size_t i = 1; i < frames.size(); ++i) replay.accept(frames[i]);
  return replay.finish();
}

TEST(Trace, HasTheColumnsOfTheContract) {
  TemporaryDirectory directory;
  replay(pipeline_record(), options_for(directory.path()));
  const auto first_line = [&](const char* file) { return lines_of(directory.file(file)).at(0); };
  EXPECT_EQ(first_line("steps.csv"),
            "step,tokens,loss,grad_norm,learning_rate,time_s,step_s,compute_s,codec_s,host_s,"
            "serialisation_s,propagation_s,window_s,"
            "queue_s,recovery_s,bytes_forward,bytes_backward,bytes_sync");
  EXPECT_EQ(first_line("ranks.csv"),
            "step,rank,compute_s,codec_s,waiting_s,idle_s,bytes_sent,bytes_received");
  EXPECT_EQ(first_line("links.csv"), "step,from,to,bytes,busy_s,utilisation");
  EXPECT_EQ(first_line("evals.csv"), "step,tokens,time_s,validation_loss,perplexity");
  EXPECT_EQ(first_line("messages.csv"),
            "step,from,to,kind,microbatch,bytes,sent_s,delivered_s,bound_by");
  EXPECT_EQ(first_line("diagnostics.csv"), "step,boundary,name,value");
}

TEST(Trace, EveryColumnIsDocumented) {
  TemporaryDirectory directory;
  const Json summary = replay(pipeline_record(), options_for(directory.path()));
  const std::string page = read_file(std::string(STRAIT_SOURCE_DIR) + "/docs/metrics.md");
  for (const char* file :
       {"steps.csv", "ranks.csv", "links.csv", "evals.csv", "messages.csv", "diagnostics.csv"}) {
    const auto table = table_of(directory.file(file));
    for (const auto& [column, cell] : table.at(0))
      EXPECT_THAT(page, HasSubstr("`" + column + "`")) << file;
  }
  for (const auto& [field, value] : summary.items())
    EXPECT_THAT(page, HasSubstr("`" + field + "`"));
}

// One step of two ranks: 2 ms of computing, 1000 bytes at 80 Mbps (0.1 ms) and 20 ms of latency, 1
// ms of coding.
TEST(Trace, WritesRowsAsComputedByHand) {
  TemporaryDirectory directory;
  StepBuilder builder(2);
  builder.compute(0, 2'000'000);
  builder.receive(1, builder.send(0, 1, 976, MessageKind::forward, 0, 0, /*sync=*/24));
  builder.compute(1, 1'000'000, Phase::decode, 0, 0, Category::codec);
  replay(record_of(make_header(2), builder.log, Evaluation{1, 100, 0.0}),
         options_for(directory.path()));
  EXPECT_EQ(lines_of(directory.file("steps.csv")).at(1),
            "1,100,3,1,0.001,0.023100000,0.023100000,0.002000000,0.001000000,0.000000000,0."
            "000100000,0.020000000,"
            "0.000000000,0.000000000,0.000000000,976,0,24");
  EXPECT_EQ(lines_of(directory.file("ranks.csv")).at(1),
            "1,0,0.002000000,0.000000000,0.000000000,0.021100000,1000,0");
  EXPECT_EQ(lines_of(directory.file("ranks.csv")).at(2),
            "1,1,0.000000000,0.001000000,0.020100000,0.002000000,0,1000");
  EXPECT_EQ(lines_of(directory.file("messages.csv")).at(1),
            "1,0,1,forward,0,1000,0.002000000,0.022100000,latency");
  EXPECT_EQ(lines_of(directory.file("evals.csv")).at(1), "1,100,0.023100000,0,1");
  const auto links = table_of(directory.file("links.csv"));
  ASSERT_EQ(links.size(), 2u);
  EXPECT_EQ(links[0].at("bytes"), "1000");
  EXPECT_EQ(links[0].at("busy_s"), "0.000100000");
  EXPECT_DOUBLE_EQ(std::stod(links[0].at("utilisation")), 0.0001 / 0.0231);
}

TEST(Trace, PartsAddUpToTheNanosecond) {
  TemporaryDirectory directory;
  replay(pipeline_record(), options_for(directory.path()));
  int64_t end = 0;
  std::map<std::string, int64_t> step_times;
  for (const auto& row : table_of(directory.file("steps.csv"))) {
    int64_t parts = 0;
    for (const char* part : {"compute_s", "codec_s", "host_s", "serialisation_s", "propagation_s",
                             "window_s", "queue_s", "recovery_s"})
      parts += nanoseconds(row.at(part));
    EXPECT_EQ(parts, nanoseconds(row.at("step_s")));
    EXPECT_EQ(nanoseconds(row.at("time_s")), end + parts);
    end += parts;
    step_times[row.at("step")] = parts;
  }
  for (const auto& row : table_of(directory.file("ranks.csv")))
    EXPECT_EQ(nanoseconds(row.at("compute_s")) + nanoseconds(row.at("codec_s")) +
                  nanoseconds(row.at("waiting_s")) + nanoseconds(row.at("idle_s")),
              step_times.at(row.at("step")));
}

TEST(Trace, TokensCountUpAndEvaluationsCarryTheTimeOfTheirStep) {
  TemporaryDirectory directory;
  replay(pipeline_record(), options_for(directory.path()));
  const auto steps = table_of(directory.file("steps.csv")),
             evaluations = table_of(directory.file("evals.csv"));
  ASSERT_EQ(steps.size(), 6u);
  EXPECT_EQ(steps[5].at("tokens"), "600");
  ASSERT_EQ(evaluations.size(), 4u);
  EXPECT_EQ(evaluations[0].at("time_s"), "0.000000000");
  EXPECT_EQ(evaluations[2].at("time_s"), steps[3].at("time_s"));
  EXPECT_EQ(std::stod(evaluations[2].at("perplexity")), std::exp(1.5));
}

TEST(Trace, TwoSimulationsGiveTheSameBytes) {
  TemporaryDirectory first, second;
  std::mt19937_64 random(23);
  std::vector<Frame> frames = record_of(make_header(4));
  for (int s = 1; s <= 8; ++s) add_frame(frames, random_step(random, 4, s, 120));
  NetworkConfig config = ideal_config(80'000'000, 5'000'000, Topology::mesh);
  config.links.jitter = Nanoseconds{300'000};
  config.links.bandwidth_jitter = 0.2;
  for (const auto* directory : {&first, &second}) {
    TraceOptions options = options_for(directory->path());
    options.messages = MessageRows::all;
    replay(frames, options, config);
  }
  for (const char* file :
       {"steps.csv", "ranks.csv", "links.csv", "evals.csv", "messages.csv", "timeline.json"})
    EXPECT_TRUE(read_file(first.file(file)) == read_file(second.file(file))) << file;
}

TEST(Trace, MessagesAreListedForNoneTheFirstOrAllSteps) {
  for (const auto& [rows, last] :
       {std::pair{MessageRows::first_steps, "3"}, std::pair{MessageRows::all, "6"}}) {
    TemporaryDirectory directory;
    TraceOptions options = options_for(directory.path());
    options.messages = rows;
    replay(pipeline_record(), options);
    const auto table = table_of(directory.file("messages.csv"));
    EXPECT_EQ(table.back().at("step"), last);
    EXPECT_EQ(table.size(), 24u * std::stoul(last));  // 3 boundaries, 4 microbatches, both ways
  }
  TemporaryDirectory directory;
  write_file(directory.file("messages.csv"), "of an earlier run");
  TraceOptions options = options_for(directory.path());
  options.messages = MessageRows::none;
  replay(pipeline_record(), options);
  EXPECT_FALSE(std::filesystem::exists(directory.file("messages.csv")));
}

TEST(Trace, NumbersAreWrittenInFull) {
  TemporaryDirectory directory;
  CsvFile csv(directory.file("x.csv"), "a,b,c,d,e,f");
  csv.cell(Nanoseconds{-1})
      .cell(0.1)
      .cell(1e300)
      .cell(std::nan(""))
      .cell(-INFINITY)
      .cell(std::string_view("a \"b\", c"))
      .end_row();
  csv.cell(Nanoseconds{12'000'000'345})
      .cell(1.0 / 3)
      .cell(uint64_t{UINT64_MAX})
      .cell(int64_t{-5})
      .cell(5e-324)
      .cell(std::string_view(""))
      .end_row();
  csv.flush();
  EXPECT_THAT(lines_of(directory.file("x.csv")),
              ElementsAre("a,b,c,d,e,f", "-0.000000001,0.1,1e+300,nan,-inf,\"a \"\"b\"\", c\"",
                          "12.000000345,0.3333333333333333,18446744073709551615,-5,5e-324,"));
}

TEST(Trace, ACsvFileIsCutToWholeRowsWhenTheDiskIsFull) {
  TemporaryDirectory directory;
  struct rlimit before {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto previous = std::signal(SIGXFSZ, SIG_IGN);
  CsvFile csv(directory.file("x.csv"), "a");
  const struct rlimit limit { 1000, before.rlim_max };
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  std::string text;
  try {
    for (int i = 0; i < 500; ++i) {
      csv.cell(1'000'000 + i).end_row();
      csv.flush();
    }
  } catch (const RunFileError& error) {
    text = error.what();
  }
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, previous);
  EXPECT_THAT(text, HasSubstr("x.csv: File too large"));
  EXPECT_EQ(read_file(directory.file("x.csv")).size(),
            2u + 124 * 8);  // 124 rows of eight bytes fit, the next would not
}

TEST(Trace, BoundByNamesTheLargestPart) {
  Delivery d;
  d.serialisation = {5};
  EXPECT_EQ(bound_by(d), "bandwidth");
  d.propagation = {3};
  d.host = {3};
  EXPECT_EQ(bound_by(d), "latency");
  d.window = {7};
  EXPECT_EQ(bound_by(d), "window");
  d.queue = {8};
  EXPECT_EQ(bound_by(d), "queue");
  d.recovery = {9};
  EXPECT_EQ(bound_by(d), "loss");
}

// ---- timeline ----

TEST(Timeline, IsValidAndItsArrowsLeadFromSendToReceive) {
  TemporaryDirectory directory;
  replay(pipeline_record(), options_for(directory.path()));
  const Json timeline = Json::parse(read_file(directory.file("timeline.json")));
  std::map<int64_t, std::vector<Json>> arrows;
  std::set<std::pair<int, int>> named, used;
  int messages = 0;
  for (const Json& event : timeline.at("traceEvents")) {
    const std::pair<int, int> track{event.at("pid"), event.at("tid")};
    const std::string phase = event.at("ph");
    if (phase == "M" && event.at("name") == "thread_name") named.insert(track);
    if (phase == "X") used.insert(track);
    if (phase == "X" && event.at("pid") == 2) ++messages;
    if (phase == "s" || phase == "f") arrows[event.at("id")].push_back(event);
  }
  // Two steps of 24 messages; every track is named; four ranks and six directions of links.
  EXPECT_EQ(messages, 48);
  EXPECT_EQ(arrows.size(), 48u);
  EXPECT_EQ(used, named);
  EXPECT_EQ(named.size(), 4u + 6u);
  for (const auto& [id, ends] : arrows) {
    ASSERT_EQ(ends.size(), 2u) << id;
    EXPECT_EQ(ends[0].at("ph"), "s");
    EXPECT_EQ(ends[1].at("ph"), "f");
    EXPECT_EQ(ends[1].at("bp"), "e");
    EXPECT_EQ(std::abs(ends[0].at("tid").get<int>() - ends[1].at("tid").get<int>()), 1);
    // c = 10,000 * 8 / 80 Mbps + 20 ms = 21 ms.
    EXPECT_GE(ends[1].at("ts").get<double>() - ends[0].at("ts").get<double>(), 21'000.0);
  }
}

// Viewers drop slices of a track that overlap without nesting, so there must be none, and parents
// must come first.
TEST(Timeline, SlicesOfATrackNest) {
  TemporaryDirectory directory;
  std::mt19937_64 random(29);
  std::vector<Frame> frames = record_of(make_header(4));
  for (int s = 1; s <= 4; ++s) add_frame(frames, random_step(random, 4, s, 150));
  TraceOptions options = options_for(directory.path());
  options.timeline_last = 4;
  replay(frames, options, ideal_config(80'000'000, 1'000'000, Topology::mesh));
  const Json timeline = Json::parse(read_file(directory.file("timeline.json")));
  std::map<std::pair<int, int>, std::vector<int64_t>>
      open;  // ends of the slices that are open on a track
  std::map<std::pair<int, int>, int64_t> last_start;
  for (const Json& event : timeline.at("traceEvents")) {
    if (event.at("ph") != "X") continue;
    const std::pair<int, int> track{event.at("pid"), event.at("tid")};
    const int64_t start = std::llround(event.at("ts").get<double>() * 1000),
                  end = start + std::llround(event.at("dur").get<double>() * 1000);
    EXPECT_GE(start, last_start[track]);
    last_start[track] = start;
    auto& stack = open[track];
    while (!stack.empty() && stack.back() <= start) stack.pop_back();
    if (!stack.empty()) {
      EXPECT_LE(end, stack.back());
    }
    stack.push_back(end);
  }
}

// ---- summary ----

TEST(Summary, HoldsTheFinalFigures) {
  TemporaryDirectory directory;
  TraceOptions options = options_for(directory.path());
  options.targets = {3.0, 1.5, 0.5};
  options.network_seed = 5;
  options.devices = {"A10G", "A10G", "A10G", "A10G, 2x slower"};
  const Json summary = replay(pipeline_record(), options);
  EXPECT_EQ(Json::parse(read_file(directory.file("summary.json"))), summary);
  const auto steps = table_of(directory.file("steps.csv"));
  EXPECT_EQ(summary.at("complete"), true);
  EXPECT_EQ(summary.at("steps"), 6);
  EXPECT_EQ(summary.at("tokens"), 600);
  EXPECT_EQ(summary.at("final_validation_loss"), 1.0);
  EXPECT_DOUBLE_EQ(summary.at("time_s").get<double>(), std::stod(steps.back().at("time_s")));
  // 24 messages a step of 10,000 bytes, each of which stands for 80,000.
  EXPECT_EQ(summary.at("bytes").at("forward"), 6 * 12 * 10'000);
  EXPECT_EQ(summary.at("wire").at("boundaries").size(), 3u);
  EXPECT_EQ(summary.at("wire").at("boundaries")[2].at("backward").at("wire_ratio"), 8.0);
  EXPECT_EQ(summary.at("wire").at("pipeline").at("combined").at("wire_ratio"), 8.0);
  EXPECT_EQ(summary.at("wire").at("context").at("combined").at("messages"), 0);
  EXPECT_EQ(summary.at("targets")[0].at("step"), 2);
  EXPECT_DOUBLE_EQ(summary.at("targets")[0].at("time_s").get<double>(),
                   std::stod(steps[1].at("time_s")));
  EXPECT_EQ(summary.at("targets")[1].at("step"), 4);
  EXPECT_EQ(summary.at("targets")[2].at("time_s"), "not reached");
  EXPECT_EQ(summary.at("ranks")[3].at("peak_bytes"), 4560);
  EXPECT_EQ(summary.at("ranks")[3].at("device"), "A10G, 2x slower");
  EXPECT_EQ(summary.at("hashes").at("record"), "0123");
  EXPECT_EQ(summary.at("hashes").at("parameters"), "p");
  EXPECT_EQ(summary.at("seeds").at("numerics"), 7);
  EXPECT_EQ(summary.at("host").at("training_s"), 3.5);
  EXPECT_TRUE(summary.at("reference").is_null());
}

// The wire ratio counts synchronisation: 800 bytes instead of 100, with 60 of ours and a message of
// 40 beside it, are 800 / (100 + 60) forward and 800 / (100 + 60 + 40) together.
TEST(Summary, TheWireRatioCountsSynchronisation) {
  TemporaryDirectory directory;
  StepBuilder builder(2);
  builder.receive(1, builder.send(0, 1, 100, MessageKind::forward, 0, 0, /*sync=*/60));
  builder.receive(0, builder.send(1, 0, 40, MessageKind::sync));
  const Json summary =
      replay(record_of(make_header(2), builder.log), options_for(directory.path()));
  const Json& boundary = summary.at("wire").at("boundaries")[0];
  EXPECT_EQ(boundary.at("forward").at("wire_ratio"), 5.0);
  EXPECT_TRUE(boundary.at("backward").at("wire_ratio").is_null());
  EXPECT_EQ(boundary.at("combined").at("wire_ratio"), 4.0);
  EXPECT_EQ(summary.at("bytes").at("sync"), 100);
  EXPECT_EQ(summary.at("complete"), false);
}

// A grid of 2 stages x 2 shards x 2 replicas: one message along each axis.
TEST(Summary, SortsTrafficByWhereItCrossesTheGrid) {
  TemporaryDirectory directory;
  StepBuilder builder(8);
  builder.receive(1, builder.send(0, 1, 10));
  builder.receive(2, builder.send(0, 2, 20, MessageKind::sync));
  builder.receive(4, builder.send(0, 4, 30, MessageKind::sync));
  const Json wire =
      replay(record_of(make_header(2, 2, 2), builder.log), options_for(directory.path()),
             ideal_config(80'000'000, 0, Topology::mesh))
          .at("wire");
  EXPECT_EQ(wire.at("pipeline").at("combined").at("bytes"), 10);
  EXPECT_EQ(wire.at("context").at("combined").at("bytes"), 20);
  EXPECT_EQ(wire.at("data").at("combined").at("bytes"), 30);
  EXPECT_EQ(wire.at("all").at("combined").at("bytes"), 60);
}

// The reference sends ten times the bytes and takes the same computes: the ratio in bytes is 10,
// those of transfer and step time are smaller, and follow from the two runs' own figures.
TEST(Summary, ComparesWithAReference) {
  TemporaryDirectory plain, packed;
  const auto with_bytes = [](uint64_t bytes) {
    return record_of(make_header(2),
                     pipeline_step(2, 2, {3'000'000, 6'000'000, 0, bytes}, gpipe_order));
  };
  const Json reference = replay(with_bytes(100'000), options_for(plain.path()));
  TraceOptions options = options_for(packed.path());
  options.reference = plain.file("summary.json");
  const Json summary = replay(with_bytes(10'000), options);
  const Json& ratios = summary.at("reference");
  EXPECT_DOUBLE_EQ(ratios.at("bytes_ratio").get<double>(), 10.0);
  EXPECT_DOUBLE_EQ(ratios.at("step_time_ratio").get<double>(),
                   reference.at("time_s").get<double>() / summary.at("time_s").get<double>());
  EXPECT_DOUBLE_EQ(ratios.at("transfer_time_ratio").get<double>(),
                   reference.at("wire").at("all").at("combined").at("transfer_s").get<double>() /
                       summary.at("wire").at("all").at("combined").at("transfer_s").get<double>());
  options.reference = plain.file("absent.json");
  EXPECT_THROW(replay(with_bytes(10'000), options), RunFileError);
}

TEST(Summary, AMetaRunHasNoLosses) {
  TemporaryDirectory directory;
  StepLog step = pipeline_step(2, 2, {3'000'000, 6'000'000, 0, 100}, gpipe_order);
  step.loss = step.grad_norm = std::nan("");
  TraceOptions options = options_for(directory.path());
  options.targets = {1.0};
  RecordHeader header = make_header(2);
  header.meta = true;
  const Json summary = replay(record_of(header, step), options);
  EXPECT_TRUE(summary.at("final_loss").is_null());
  EXPECT_EQ(summary.at("targets")[0].at("measured_on"), "training");
  EXPECT_EQ(summary.at("targets")[0].at("time_s"), "unknown");
  EXPECT_EQ(table_of(directory.file("steps.csv"))[0].at("loss"), "nan");
}

}  // namespace
}  // namespace strait::sim
