#include "report/table.h"

#include "catch_amalgamated.hpp"

TEST_CASE("a table aligns numbers to the right and words to the left, counting characters", "[report]") {
  CHECK(dsft::report::format_table({"case", "dsft", "ok"}, {{"größe", "1.5", "yes"}, {"b", "-12.25", "no"}, {"c"}}) ==
        "case     dsft  ok\n"
        "-----  ------  ---\n"
        "größe     1.5  yes\n"
        "b      -12.25  no\n"
        "c\n");
}
