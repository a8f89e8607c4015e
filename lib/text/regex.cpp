#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>

#include "base/error.h"
#include "text/oniguruma.h"
#include "text/utf8.h"

namespace dsft::text {
namespace {

constexpr uint32_t kMatchLimit = 20'000'000;
constexpr uint32_t kHeapLimitKib = 128 << 10;  // PCRE2's own is 20 GB

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};

std::string message_of(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

struct Regex::State {
  std::string pattern;
  std::string where;
  std::unique_ptr<pcre2_code, Free<pcre2_code_free>> code;
};

Regex::Regex(std::string_view pattern, const std::string& where) : state_(std::make_unique<State>()) {
  state_->pattern = pattern;
  state_->where = where;
  const std::string translated = to_pcre2(pattern, where);
  int error = 0;
  PCRE2_SIZE offset = 0;
  state_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr));
  if (!state_->code)
    fail(ErrorKind::kCheckpoint, where, ": the regular expression \"", pattern,
         "\" cannot be compiled: ", message_of(error));
  // without just-in-time compilation (some machines forbid it) the same code is interpreted
  pcre2_jit_compile(state_->code.get(), PCRE2_JIT_COMPLETE);
}

Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

void Regex::for_each_match(std::string_view text, const std::function<void(size_t, size_t)>& on_match) const {
  std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>> context(pcre2_match_context_create(nullptr));
  std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>> data(
      pcre2_match_data_create_from_pattern(state_->code.get(), nullptr));
  DSFT_CHECK(context && data, "out of memory for a regular expression");
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimitKib);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  for (size_t start = 0; start <= text.size();) {
    int count =
        pcre2_match(state_->code.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK, data.get(), context.get());
    if (count == PCRE2_ERROR_JIT_STACKLIMIT) {  // rare: the interpreter's memory is the heap
      count = pcre2_match(state_->code.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                          data.get(), context.get());
    }
    if (count == PCRE2_ERROR_NOMATCH) return;
    if (count < 0) {
      fail(ErrorKind::kCheckpoint, state_->where, ": the regular expression \"", state_->pattern,
           "\" cannot be matched at byte ", start, " of a text: ", message_of(count));
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data.get());
    const size_t begin = bounds[0], end = bounds[1];
    if (begin > end)
      fail(ErrorKind::kCheckpoint, state_->where, ": the regular expression \"", state_->pattern,
           "\" sets a match's start behind its end (\\K)");
    on_match(begin, end);
    start = end;
    if (begin == end) start += end < text.size() ? decode_valid_utf8(text.data() + end).size : 1;
  }
}

std::string escape_regex(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (std::string_view("\\.+*?()|[]{}^$#&-~").find(c) != std::string_view::npos) out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

}  // namespace dsft::text
