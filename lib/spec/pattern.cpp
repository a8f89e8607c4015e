#define PCRE2_CODE_UNIT_WIDTH 8
#include "spec/pattern.h"

#include <pcre2.h>

#include "base/error.h"

namespace dsft::spec {

struct Pattern::Compiled {
  std::string expression;
  std::string where;
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;

  ~Compiled() {
    pcre2_code_free(code);
    pcre2_match_context_free(context);
  }
};

Pattern::Pattern(const std::string& expression, const std::string& where) : compiled_(std::make_unique<Compiled>()) {
  compiled_->expression = expression;
  compiled_->where = where;
  int error = 0;
  PCRE2_SIZE offset = 0;
  compiled_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                                  PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  if (compiled_->code == nullptr) {
    char message[256] = {};
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof(message));
    fail(ErrorKind::kUsage, where, ": the regular expression \"", expression, "\" is faulty at character ", offset,
         ": ", message, ".");
  }
  compiled_->context = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(compiled_->context, 1'000'000);
  pcre2_set_depth_limit(compiled_->context, 10'000);
}

Pattern::~Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;

bool Pattern::matches_fully(std::string_view text) const {
  return run(text, PCRE2_ANCHORED | PCRE2_ENDANCHORED, nullptr);
}

bool Pattern::matches_start(std::string_view text, std::string* first_group) const {
  return run(text, PCRE2_ANCHORED, first_group);
}

bool Pattern::run(std::string_view text, uint32_t options, std::string* first_group) const {
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(
      pcre2_match_data_create_from_pattern(compiled_->code, nullptr), pcre2_match_data_free);
  const int count = pcre2_match(compiled_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, options,
                                data.get(), compiled_->context);
  if (count == PCRE2_ERROR_NOMATCH) return false;
  if (count < 0) {
    fail(ErrorKind::kUsage, compiled_->where, ": matching \"", compiled_->expression, "\" on ", text,
         " takes too much work; write a simpler expression.");
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data.get());
  if (first_group != nullptr && count > 1 && bounds[2] != PCRE2_UNSET)
    *first_group = std::string(text.substr(bounds[2], bounds[3] - bounds[2]));
  return true;
}

}  // namespace dsft::spec
