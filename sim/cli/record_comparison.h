// Whether two records say the same: structure, bytes, numerics, evaluations, parameters; and where they first do not.
// Measured durations, host seconds and the producer's name differ by nature and are not compared.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace strait::cli {

// One kind of content. `first` and `second` are fingerprints (16 hexadecimal digits) of what each record holds of it, equal
// exactly if `difference` is empty; "" where a record holds none.
struct ComparedPart {
  std::string what;
  std::string first, second;
  std::string difference;  // the first one, in words
  int64_t step = 0;        // that it belongs to
};

struct RecordComparison {
  std::vector<ComparedPart> parts;
  int64_t steps = 0;      // of the first record
  bool complete = false;  // the first record has its footer
  std::string producer;   // of the first record

  bool equal() const;
  // The earliest difference in the order of the record, "" if there is none.
  std::string first_difference() const;
};

// Compares the records RUN/record/log.strait of two run directories. Where the first record has no footer (its run was stopped),
// what the second holds beyond the first one's last step is ignored. Throws record::RecordError.
RecordComparison compare_records(const std::filesystem::path& first_run,
                                 const std::filesystem::path& second_run);

}  // namespace strait::cli
