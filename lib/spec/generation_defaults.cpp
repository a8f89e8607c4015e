#include "spec/generation_defaults.h"

#include <array>

#include "io/json.h"
#include "spec/json_fields.h"

namespace dsft::spec {

namespace {

struct NeutralKey {
  const char* key;
  double neutral;  ///< the value that changes nothing
};
constexpr std::array<NeutralKey, 8> kUnfollowedNumbers = {{{"num_beams", 1},
                                                           {"no_repeat_ngram_size", 0},
                                                           {"typical_p", 1},
                                                           {"epsilon_cutoff", 0},
                                                           {"eta_cutoff", 0},
                                                           {"encoder_repetition_penalty", 1},
                                                           {"min_new_tokens", 0},
                                                           {"min_length", 0}}};
constexpr std::array<const char*, 7> kUnfollowed = {
    "bad_words_ids",       "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id",
    "forced_eos_token_id", "sequence_bias",   "guidance_scale"};

std::vector<std::string> ignored_keys(const JsonFields& fields) {
  std::vector<std::string> keys;
  for (const NeutralKey& row : kUnfollowedNumbers) {
    if (fields.has(row.key) && !(fields.at(row.key).is_number() && fields.at(row.key).get<double>() == row.neutral))
      keys.emplace_back(row.key);
  }
  for (const char* key : kUnfollowed) {
    if (fields.has(key)) keys.emplace_back(key);
  }
  return keys;
}

}  // namespace

GenerationDefaults read_generation_config(const std::filesystem::path& directory, const ModelSpec& spec) {
  GenerationDefaults result;
  result.eos_token_ids = spec.eos_token_ids;
  result.bos_token_id = spec.bos_token_id;
  result.pad_token_id = spec.pad_token_id;
  const std::filesystem::path file = directory / "generation_config.json";
  if (!std::filesystem::exists(file)) return result;
  const nlohmann::json document = io::read_json_file(file);
  if (!document.is_object()) fail(ErrorKind::kCheckpoint, file.string(), " must hold a JSON object.");
  std::vector<std::string> faults;
  const JsonFields fields(document, faults);
  const auto optional_integer = [&](const char* key) -> std::optional<int64_t> {
    if (!fields.has(key)) return std::nullopt;
    return fields.integer(key, 0, 0, int64_t{1} << 40);
  };
  result.do_sample = fields.boolean("do_sample", false);
  result.temperature = fields.optional_number("temperature", 0.0, 1e6);
  result.top_p = fields.optional_number("top_p", 0.0, 1.0);
  result.top_k = optional_integer("top_k");
  result.min_p = fields.optional_number("min_p", 0.0, 1.0);
  result.repetition_penalty = fields.optional_number("repetition_penalty", 1e-6, 1e6);
  result.max_new_tokens = optional_integer("max_new_tokens");
  result.eos_token_ids = fields.token_ids("eos_token_id", result.eos_token_ids);
  result.bos_token_id = fields.token_id("bos_token_id", result.bos_token_id);
  result.pad_token_id = fields.token_id("pad_token_id", result.pad_token_id);
  result.ignored_keys = ignored_keys(fields);
  fail_on_faults(faults, file);
  return result;
}

}  // namespace dsft::spec
