#include "text/jinja_text.h"

#include <string.h>

#include <algorithm>

#include "text/jinja_fault.h"

namespace dsft::text::jinja {

namespace {

void require_room(size_t size, size_t added, bool is_data) {
  const size_t limit = is_data ? kMaxDataBytes : kMaxTextBytes;
  if (added > limit || size > limit - added)
    fail_render("a string or the output grows past ", limit >> 20, " MB", is_data ? " of the row" : "");
}

}  // namespace

size_t find_bytes(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  const void* found = ::memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return found ? static_cast<size_t>(static_cast<const char*>(found) - text.data()) : std::string_view::npos;
}

size_t find_last_bytes(std::string_view text, std::string_view part) {
  const size_t found = find_bytes(std::string(text.rbegin(), text.rend()), std::string(part.rbegin(), part.rend()));
  return found == std::string_view::npos ? found : text.size() - found - part.size();
}

Text::Text(std::string bytes, Origin origin) {
  append(bytes, origin);
}

Origin Text::origin_at(size_t byte) const {
  const auto run = std::upper_bound(runs_.begin(), runs_.end(), byte,
                                    [](size_t at, const OriginRun& candidate) { return at < candidate.end; });
  return run == runs_.end() ? Origin{} : run->origin;
}

void Text::append(std::string_view bytes, Origin origin) {
  if (bytes.empty()) return;
  require_room(origin.is_data ? num_data_bytes_ : bytes_.size() - num_data_bytes_, bytes.size(), origin.is_data);
  if (origin.is_data) num_data_bytes_ += bytes.size();
  bytes_ += bytes;
  if (!runs_.empty() && runs_.back().origin == origin) {
    runs_.back().end = bytes_.size();
  } else {
    runs_.push_back({bytes_.size(), origin});
  }
}

void Text::append(const Text& other) {
  append(other, 0, other.size());
}

void Text::append(const Text& other, size_t begin, size_t end) {
  if (begin >= end) return;
  auto run = std::upper_bound(other.runs_.begin(), other.runs_.end(), begin,
                              [](size_t at, const OriginRun& candidate) { return at < candidate.end; });
  for (size_t at = begin; at < end; ++run) {
    const size_t stop = std::min(end, run->end);
    append(std::string_view(other.bytes_).substr(at, stop - at), run->origin);
    at = stop;
  }
}

Text Text::slice(size_t begin, size_t end) const {
  Text result;
  result.is_markup = is_markup;
  result.append(*this, begin, end);
  return result;
}

void Text::stamp(size_t begin, int32_t turn, bool is_generation) {
  if (begin >= size() || (turn == Origin::kNoMessage && !is_generation)) return;
  auto run = std::upper_bound(runs_.begin(), runs_.end(), begin,
                              [](size_t at, const OriginRun& candidate) { return at < candidate.end; });
  const size_t run_begin = run == runs_.begin() ? 0 : std::prev(run)->end;
  if (run_begin < begin) run = std::next(runs_.insert(run, {begin, run->origin}));
  for (; run != runs_.end(); ++run) {
    if (turn != Origin::kNoMessage) {
      run->origin.turn = turn;
      if (run->origin.message == Origin::kNoMessage) run->origin.message = turn;
    }
    run->origin.is_generation = run->origin.is_generation || is_generation;
  }
}

int32_t Text::only_message(size_t begin) const {
  int32_t message = Origin::kNoMessage;
  for (const OriginRun& run : runs_) {
    if (run.end <= begin || run.origin.message == Origin::kNoMessage) continue;
    if (message != Origin::kNoMessage && message != run.origin.message) return Origin::kNoMessage;
    message = run.origin.message;
  }
  return message;
}

}  // namespace dsft::text::jinja
