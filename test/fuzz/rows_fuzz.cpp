// A data file, taken as .jsonl and as .json, and each of its rows in any of the formats.
#include "data/row_file.h"
#include "data/row_format.h"
#include "fuzz/fuzz.h"
#include "support/temp_dir.h"

namespace {

void read_rows(const std::filesystem::path& path) {
  using namespace dsft;
  fuzz::allow_refusal([&] {
    auto file = data::RowFile::open(path);
    for (data::RawRow row; file.next(row);) fuzz::allow_refusal([&] { data::read_row(file.parse(row)); });
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const dsft::test::TempDir folder;
  const std::string input(dsft::fuzz::text_of(data, size));
  read_rows(folder.write("rows.jsonl", input));
  read_rows(folder.write("rows.json", input));
  return 0;
}
