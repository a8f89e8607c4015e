#include "zero/part_name.h"

#include "catch_amalgamated.hpp"

using dsft::zero::parse_part_name;
using dsft::zero::PartName;

TEST_CASE("A part's name says the tensor and its first element, and other names are none", "[zero]") {
  CHECK(to_text(PartName{"model.norm.weight.exp_avg", 4096}) == "model.norm.weight.exp_avg@4096");
  CHECK(parse_part_name("model.norm.weight@0") == PartName{"model.norm.weight", 0});
  CHECK(parse_part_name("a@b@9223372036854775807") == PartName{"a@b", 9223372036854775807});
  for (const char* text : {"weight", "weight@", "weight@-1", "weight@1x", "weight@ 1", "weight@9223372036854775808"})
    CHECK_FALSE(parse_part_name(text));
}
