#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"

namespace dsft::data {

/// One row as it stands in its file.
struct RawRow {
  int64_t number = 0;            ///< line of a .jsonl file, or row of a .json file; from 1
  std::string line;              ///< .jsonl: the text, not parsed yet, so that parsing can be shared by threads
  uint64_t offset = 0;           ///< .jsonl: of the line's first byte in the file
  bool is_terminated = true;     ///< .jsonl: false where the file ends without a newline after the line
  nlohmann::ordered_json value;  ///< .json: the row
};

/// "train.jsonl:12" or "train.json: row 12".
std::string name_row(const std::filesystem::path& file, int64_t number);

/// The same error, the row's name before its message: "train.jsonl:12: ...".
Error at_row(const Error& error, const std::string& name);

/// Reads the rows of a data file in order: .jsonl (streamed, blank lines skipped) or .json (a list of rows or a dict of
/// columns, parsed at once).
class RowFile {
 public:
  /// Throws kData for a file that is missing, of another kind, or (.json) malformed.
  static RowFile open(const std::filesystem::path& path);

  RowFile(RowFile&&) noexcept;
  ~RowFile();

  /// The next row; false at the end.
  bool next(RawRow& row);

  /// The row as a JSON object. Throws kData with file and line.
  nlohmann::ordered_json parse(RawRow& row) const;

  /// "train.jsonl:12", "train.json: row 12 (line 40)", or "train.json: row 12" of a dict of columns. For messages: it
  /// reads a .json file again.
  std::string describe(const RawRow& row) const;

 private:
  struct State;
  explicit RowFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace dsft::data
