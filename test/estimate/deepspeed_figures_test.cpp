#include "estimate/deepspeed_figures.h"

#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "io/json.h"
#include "support/fixtures.h"
#include "support/temp_dir.h"

using namespace dsft::estimate;
namespace io = dsft::io;
namespace spec = dsft::spec;

namespace {

nlohmann::json golden() {
  return io::read_json_file(dsft::test::fixture_path("estimate/deepspeed_estimators.json"));
}

}  // namespace

TEST_CASE("DeepSpeed's figures are DeepSpeed's", "[estimate]") {
  int64_t compared = 0;
  const nlohmann::json file = golden();
  for (const auto& row : file["rows"]) {
    INFO(row.dump());
    const Placement placement{row["stage"], row["offload_optimizer"], row["offload_param"], row["num_gpus"]};
    const auto figures =
        deepspeed_figures({row["num_params"], row["largest_layer"]}, placement, row["num_hosts"], row["zero_init"]);
    REQUIRE(figures.has_value());
    REQUIRE(figures->gpu == row["gpu"].get<int64_t>());
    REQUIRE(figures->host == row["host"].get<int64_t>());
    ++compared;
  }
  REQUIRE(compared == 240);
}

TEST_CASE("a model is counted as DeepSpeed counts it", "[estimate]") {
  const nlohmann::json file = golden();
  REQUIRE(file["models"].size() == 2);
  for (const auto& model : file["models"]) {
    dsft::test::TempDir dir;
    const spec::ModelSpec spec = spec::read_model_spec_file(dir.write("config.json", model["config"].dump()));
    const DeepSpeedModel counted = deepspeed_model(spec);
    REQUIRE(counted.num_params == model["num_params"].get<int64_t>());
    REQUIRE(counted.largest_layer == model["largest_layer"].get<int64_t>());
  }
}

TEST_CASE("where DeepSpeed's estimators say nothing there is no figure", "[estimate]") {
  const DeepSpeedModel model{1000, 100};
  REQUIRE_FALSE(deepspeed_figures(model, {.stage = 0}).has_value());
  REQUIRE_FALSE(deepspeed_figures(model, {.stage = 1, .offloads_optimizer = true}).has_value());
  REQUIRE_FALSE(deepspeed_figures(model, {.stage = 3, .offloads_parameters = true}).has_value());
}
