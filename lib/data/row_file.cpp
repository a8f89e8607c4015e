#include "data/row_file.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"
#include "io/jsonl.h"

namespace dsft::data {

using Json = nlohmann::ordered_json;

namespace {

constexpr io::JsonLimits kFileLimits{
    .max_size_bytes = uint64_t{4} << 30, .max_depth = 66, .max_values = 1'000'000'000, .keeps_long_integers = true};

bool is_jsonl(const std::filesystem::path& file) {
  return file.extension() == ".jsonl";
}

/// A dict of columns as a list of rows. All columns have one length.
std::vector<Json> rows_of_columns(Json& columns, const std::filesystem::path& path) {
  size_t num_rows = 0;
  std::string first;
  for (auto& [name, column] : columns.items()) {
    if (column.is_object())
      fail(ErrorKind::kData, path.string(), ": \"", name,
           "\" is a dict of rows, as pandas' to_json writes by default. Write it with to_json(orient=\"records\"), or "
           "with lines=True into a .jsonl file.");
    if (!column.is_array())
      fail(ErrorKind::kData, path.string(), ": a .json file is a list of rows or a dict of columns; \"", name,
           "\" is no list.");
    if (first.empty()) {
      first = name;
      num_rows = column.size();
    } else if (column.size() != num_rows) {
      fail(ErrorKind::kData, path.string(), ": column \"", name, "\" has ", column.size(), " rows, but \"", first,
           "\" has ", num_rows, ".");
    }
  }
  std::vector<Json> rows(num_rows, Json::object());
  for (auto& [name, column] : columns.items()) {
    // names are distinct: [] would look through all columns before this one
    for (size_t i = 0; i < num_rows; ++i) rows[i].get_ref<Json::object_t&>().emplace_back(name, std::move(column[i]));
  }
  return rows;
}

std::vector<Json> read_json_rows(const std::filesystem::path& path) {
  Json document = io::read_ordered_json_file(path, ErrorKind::kData, kFileLimits);
  if (document.is_object()) return rows_of_columns(document, path);
  if (!document.is_array())
    fail(ErrorKind::kData, path.string(), ": a .json file of rows is a list of objects or a dict of columns.");
  std::vector<Json> rows;
  rows.reserve(document.size());
  for (Json& row : document) rows.push_back(std::move(row));
  return rows;
}

/// The line of the file on which the row begins, from 1: the row's place in a list is hard to find by eye. 0 where the
/// document is no list or is gone.
int64_t find_line(const std::filesystem::path& path, int64_t number) {
  std::string text;
  try {
    text = io::read_text_file(path, kFileLimits.max_size_bytes, ErrorKind::kData);
  } catch (const Error&) {
    return 0;
  }
  int64_t line = 1, row = 0;
  int depth = 0;
  bool is_in_string = false, is_between = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    line += c == '\n';
    if (is_in_string) {
      i += c == '\\';
      is_in_string = c != '"';
      continue;
    }
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n') continue;
    if (depth == 0 && c == '{') return 0;
    if (is_between && ++row == number) return line;
    is_in_string = c == '"';
    depth += (c == '[' || c == '{') - (c == ']' || c == '}');
    is_between = depth == 1 && (c == ',' || (c == '[' && row == 0));
  }
  return 0;
}

}  // namespace

std::string name_row(const std::filesystem::path& file, int64_t number) {
  return concat(file.string(), is_jsonl(file) ? ":" : ": row ", number);
}

Error at_row(const Error& error, const std::string& name) {
  Error placed(error.kind(), concat(name, ": ", error.message()));
  for (const std::string& line : error.context()) placed.add_context(line);
  return placed;
}

struct RowFile::State {
  std::filesystem::path path;
  std::optional<io::JsonlReader> lines;
  std::vector<Json> rows;
  size_t next_row = 0;
};

RowFile::RowFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
RowFile::RowFile(RowFile&&) noexcept = default;
RowFile::~RowFile() = default;

RowFile RowFile::open(const std::filesystem::path& path) {
  auto state = std::make_unique<State>();
  state->path = path;
  if (is_jsonl(path)) {
    state->lines.emplace(path);
  } else if (path.extension() == ".json") {
    state->rows = read_json_rows(path);
  } else {
    fail(ErrorKind::kData, path.string(), ": rows are read from .jsonl and .json files, not from ", path.extension(),
         ". Convert it, for example by pandas' to_json(orient=\"records\", lines=True).");
  }
  return RowFile(std::move(state));
}

bool RowFile::next(RawRow& row) {
  if (!state_->lines) {
    if (state_->next_row == state_->rows.size()) return false;
    row = RawRow{};
    row.value = std::move(state_->rows[state_->next_row++]);
    row.number = static_cast<int64_t>(state_->next_row);
    return true;
  }
  io::JsonlLine line;
  if (!state_->lines->next(line)) return false;
  row = RawRow{line.number, std::string(line.text), line.offset, line.is_terminated, {}};
  return true;
}

Json RowFile::parse(RawRow& row) const {
  if (state_->lines) {
    io::JsonlLine line;
    line.text = row.line;
    line.number = row.number;
    line.offset = row.offset;
    line.is_terminated = row.is_terminated;
    return io::parse_jsonl_line(line, state_->path);
  }
  if (!row.value.is_object())
    fail(ErrorKind::kData, describe(row), ": a row is a JSON object, not ", row.value.type_name(), ".");
  return std::move(row.value);
}

std::string RowFile::describe(const RawRow& row) const {
  const int64_t line = state_->lines ? 0 : find_line(state_->path, row.number);
  const std::string name = name_row(state_->path, row.number);
  return line > 0 ? concat(name, " (line ", line, ")") : name;
}

}  // namespace dsft::data
