#include "io/json.h"

#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "io/jsonl.h"
#include "io/utf8.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using dsft::ErrorKind;
using dsft::test::require_error;
using dsft::test::TempDir;
namespace io = dsft::io;

TEST_CASE("JSON faults carry file, line and column", "[io]") {
  const auto parse = [](const std::string& text) { return io::parse_json(text, "config.json"); };
  REQUIRE(parse("{\"a\": [1, -2, 2.5, true, null, \"x\"]}").dump() == R"({"a":[1,-2,2.5,true,null,"x"]})");
  require_error(ErrorKind::kCheckpoint, {"config.json:3:", "\"a\" is written twice"},
                [&] { parse("{\n\"a\": 1,\n\"a\": 2}"); });
  require_error(ErrorKind::kCheckpoint, {"config.json:2:", "not valid JSON"}, [&] { parse("{\n\"a\": x}"); });
  require_error(ErrorKind::kCheckpoint, {"config.json:2:2", "UTF-8"}, [&] { parse("{\n\"\xff\": 1}"); });
  require_error(ErrorKind::kCheckpoint, {"deeper than 64"}, [&] { parse(std::string(1000000, '[')); });
  require_error(ErrorKind::kData, {"config.json:11:"},
                [&] { io::parse_json("[1,", "config.json", ErrorKind::kData, {}, 11); });
  require_error(ErrorKind::kCheckpoint, {"more than 3 values"},
                [&] { io::parse_json("[1,2,3]", "x", ErrorKind::kCheckpoint, {.max_values = 3}); });
  require_error(ErrorKind::kCheckpoint, {"at most 4"},
                [&] { io::parse_json("[1,2,3]", "x", ErrorKind::kCheckpoint, {.max_size_bytes = 4}); });
}

TEST_CASE("ordered JSON keeps the order of keys", "[io]") {
  REQUIRE(io::parse_ordered_json(R"({"b":{"z":1,"y":[{"k":2,"a":3}]},"a":0})", "x").dump() ==
          R"({"b":{"z":1,"y":[{"k":2,"a":3}]},"a":0})");
}

TEST_CASE("an object of very many keys is read in linear time, and a key written twice is still found", "[io]") {
  std::string text = "{";
  for (int i = 0; i < 100'000; ++i) text += "\"k" + std::to_string(i) + "\":0,";
  const auto document = io::parse_ordered_json(text + "\"last\":1}", "x");
  REQUIRE((document.size() == 100'001 && std::prev(document.end()).key() == "last"));
  require_error(ErrorKind::kCheckpoint, {"\"k7\" is written twice"},
                [&] { io::parse_ordered_json(text + "\"k7\":1}", "x"); });
}

TEST_CASE("JSONL lines come with number and offset", "[io]") {
  TempDir dir;
  const auto path = dir.write("rows.jsonl", "\xEF\xBB\xBF{\"a\":1}\r\n\n  \t\n{\"a\":2}\n{\"a\":3}");
  io::JsonlReader reader(path);
  io::JsonlLine line;
  REQUIRE(reader.next(line));
  REQUIRE((line.text == "{\"a\":1}" && line.number == 1 && line.offset == 3));
  REQUIRE(reader.next(line));
  REQUIRE((line.text == "{\"a\":2}" && line.number == 4 && line.offset == 17 && line.is_terminated));
  REQUIRE(reader.next(line));
  REQUIRE((line.text == "{\"a\":3}" && line.number == 5 && !line.is_terminated));
  REQUIRE_FALSE(reader.next(line));
}

TEST_CASE("a JSONL file cut at any byte gives whole rows or an error with line and byte", "[io]") {
  TempDir dir;
  const std::string whole = "{\"a\":\"\xC3\xA9\"}\n{\"b\":[1,2]}\n";
  for (size_t size = 0; size <= whole.size(); ++size) {
    const auto path = dir.write("rows.jsonl", whole.substr(0, size));
    const size_t first = 11;
    const size_t second = whole.size() - 1;
    const bool is_whole = size == 0 || size == first - 1 || size == first || size >= second;
    const auto read_all = [&] {
      io::JsonlReader reader(path);
      for (io::JsonlLine line; reader.next(line);) io::parse_jsonl_line(line, path);
    };
    INFO("cut at " << size);
    if (is_whole) {
      read_all();
    } else {
      require_error(ErrorKind::kData, {size < first ? "rows.jsonl:1" : "rows.jsonl:2", "byte", "cut"}, read_all);
    }
  }
}

TEST_CASE("JSONL rows that are no objects are named", "[io]") {
  TempDir dir;
  const auto path = dir.write("rows.jsonl", "{}\n[1]\n");
  io::JsonlReader reader(path);
  io::JsonlLine line;
  REQUIRE((reader.next(line) && reader.next(line)));
  require_error(ErrorKind::kData, {"rows.jsonl:2", "array"}, [&] { io::parse_jsonl_line(line, path); });
  require_error(ErrorKind::kData, {"missing.jsonl"}, [&] { io::JsonlReader(dir / "missing.jsonl"); });
}

TEST_CASE("lines longer than the reading piece are read whole", "[io]") {
  TempDir dir;
  const std::string text = "{\"a\":\"" + std::string(3'000'000, 'x') + "\"}";
  io::JsonlReader reader(dir.write("rows.jsonl", text + "\n" + text + "\n{}\n"));
  io::JsonlLine line;
  REQUIRE((reader.next(line) && line.text == text));
  REQUIRE((reader.next(line) && line.text == text && line.offset == text.size() + 1));
  REQUIRE((reader.next(line) && line.text == "{}"));
}

TEST_CASE("UTF-8 faults are found at their byte", "[io]") {
  REQUIRE(io::find_invalid_utf8("plain text, na\xC3\xAFve \xF0\x9F\x98\x80 \xE4\xB8\xAD") == std::string_view::npos);
  REQUIRE(io::find_invalid_utf8("abc\xC0\x80") == 3);               // overlong
  REQUIRE(io::find_invalid_utf8("\xED\xA0\x80") == 0);              // lone surrogate
  REQUIRE(io::find_invalid_utf8("12345678\xF4\x90\x80\x80") == 8);  // past U+10FFFF
  REQUIRE(io::find_invalid_utf8("ok\xE4\xB8") == 2);                // cut
}
