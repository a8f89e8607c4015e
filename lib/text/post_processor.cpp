#include "text/post_processor.h"

#include "text/json_fields.h"
#include "text/vocabulary.h"

namespace dsft::text {
namespace {

int32_t read_id(const nlohmann::json& value, const JsonFields& fields) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() >= Vocabulary::kMaxIds) {
    fields.fail_here("a special token's id must be a whole number from 0 to " +
                     std::to_string(Vocabulary::kMaxIds - 1));
  }
  return value.get<int32_t>();
}

PostProcessor build_template(const JsonFields& fields) {
  const JsonFields special_tokens(fields.value("special_tokens"), fields.where() + ".special_tokens");
  PostProcessor result;
  bool has_text = false;
  for (const auto& item : fields.array("single")) {
    const JsonFields piece(item, fields.where() + ".single");
    if (piece.has("Sequence")) {
      if (has_text) piece.fail_here("the text stands in the template twice");
      has_text = true;
      continue;
    }
    const std::string name = JsonFields(piece.value("SpecialToken"), piece.where()).string("id");
    const JsonFields token(special_tokens.value(name.c_str()), special_tokens.where());
    for (const auto& id : token.array("ids")) (has_text ? result.suffix : result.prefix).push_back(read_id(id, token));
  }
  if (!has_text) fields.fail_here("the template \"single\" does not hold the text");
  return result;
}

int32_t read_token_pair(const JsonFields& fields, const char* name) {
  const auto& pair = fields.array(name);
  if (pair.size() != 2) fields.fail_here(std::string("\"") + name + "\" must be a token and its id");
  return read_id(pair[1], fields);
}

PostProcessor build_post_processor_step(const nlohmann::json& description, const std::string& where, int depth) {
  const JsonFields fields(description, where);
  if (depth > 8) fields.fail_here("sequences are nested too deeply");
  const std::string type = fields.string("type");
  if (type == "ByteLevel") return {};
  if (type == "TemplateProcessing") return build_template(fields);
  if (type == "BertProcessing" || type == "RobertaProcessing")
    return {{read_token_pair(fields, "cls")}, {read_token_pair(fields, "sep")}};
  if (type != "Sequence") {
    fields.fail_here(
        "the post-processor \"" + type +
        "\" is not supported; known are TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel and Sequence");
  }
  PostProcessor result;
  for (const auto& step : fields.array("processors")) {
    const PostProcessor outer = build_post_processor_step(step, where, depth + 1);
    result.prefix.insert(result.prefix.begin(), outer.prefix.begin(), outer.prefix.end());
    result.suffix.insert(result.suffix.end(), outer.suffix.begin(), outer.suffix.end());
  }
  return result;
}

}  // namespace

PostProcessor build_post_processor(const nlohmann::json& description, const std::string& where) {
  if (description.is_null()) return {};
  return build_post_processor_step(description, where, 0);
}

}  // namespace dsft::text
