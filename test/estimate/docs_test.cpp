#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "estimate/gpus.h"
#include "estimate/model_shapes.h"
#include "estimate/size_table.h"

using namespace dsft::estimate;
using dsft::concat;

namespace {

std::string gpu_section() {
  std::string text = "\n| GPU | GB | GB/s | TFLOP/s | source |\n|---|---|---|---|---|\n";
  for (const NamedGpu& gpu : named_gpus())
    text += concat("| ", gpu.name, " | ", gpu.memory_gib, " | ", gpu.bandwidth_gb_s, " | ", gpu.tflops, " | ",
                   gpu.source, " |\n");
  return text + "\n";
}

std::string guide_section() {
  std::string text = "\n| size | guide | its memory, GPUs | shape | why: computed |\n|---|---|---|---|---|\n";
  for (const SizeRow& row : compute_table())
    text += concat("| ", row.guide.sizes, " | ", row.guide.advice, " | ", row.guide.memory, ", ", row.guide.gpus, " | ",
                   row.guide.shape, " (", to_size(row.num_params), ") | ", row.reason,
                   " LoRA r = 16: ", to_gib(row.lora.gpu.total()), " on one GPU. |\n");
  return text + "\n";
}

// The page with what stands between two marks replaced.
std::string with_section(const std::string& page, const std::string& name, const std::string& section) {
  const std::string begin = "<!-- " + name + " -->\n", end = "<!-- /" + name + " -->";
  const size_t first = page.find(begin), last = page.find(end);
  REQUIRE(first != std::string::npos);
  REQUIRE(last != std::string::npos);
  return page.substr(0, first + begin.size()) + section + page.substr(last);
}

}  // namespace

TEST_CASE("docs/memory.md has the GPUs and the guide as they are computed", "[estimate]") {
  const std::string path = DSFT_SOURCE_DIR "/docs/memory.md";
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  const std::string page = with_section(with_section(text.str(), "gpus", gpu_section()), "guide", guide_section());
  if (std::getenv("DSFT_UPDATE_DOCS")) std::ofstream(path) << page;
  std::stringstream again;
  again << std::ifstream(path).rdbuf();
  CHECK(again.str() == page);
}
