#include "zero/saved_state.h"

#include <c10/util/accumulate.h>
#include <torch/types.h>

#include <algorithm>

#include "base/error.h"
#include "zero/part_name.h"

namespace dsft::zero {
namespace {

std::string describe(const StoredState& state) {
  return concat(c10::toString(state.type), " ", at::IntArrayRef(state.sizes));
}

bool are_equal(const StoredState& a, const StoredState& b) {
  if (a.type != b.type || a.sizes != b.sizes) return false;
  const at::Tensor first = at::empty({a.numel()}, a.type), second = at::empty({a.numel()}, a.type);
  a.read(0, first);
  b.read(0, second);
  return at::equal(first, second);
}

}  // namespace

int64_t StoredState::numel() const {
  return c10::multiply_integers(sizes);
}

std::vector<StoredState> stored_in_memory(const std::vector<NamedState>& state) {
  std::vector<StoredState> stored;
  for (const NamedState& item : state)
    stored.push_back({item.name, item.tensor.sizes().vec(), item.tensor.scalar_type(),
                      [tensor = item.tensor](int64_t first, at::Tensor to) {
                        to.copy_(tensor.reshape(-1).narrow(0, first, to.numel()));
                      }});
  return stored;
}

SavedState::SavedState(std::vector<StoredState> state) {
  for (StoredState& item : state) {
    const std::string name = item.name;
    const std::optional<PartName> part = parse_part_name(name);
    Saved& saved = saved_[part ? part->tensor : name];
    if (part) {
      if (!saved.parts.emplace(part->first, std::move(item)).second) faults_ += concat("\n  twice: ", name);
    } else if (!saved.whole) {
      saved.whole = std::move(item);
    } else if (!are_equal(*saved.whole, item)) {
      faults_ += concat("\n  ", name, " differs between the parts of the ranks");
    }
  }
}

void SavedState::expect(const std::string& name, at::IntArrayRef sizes, at::ScalarType type) {
  const int64_t numel = c10::multiply_integers(sizes);
  const auto found = saved_.find(name);
  if (found == saved_.end()) {
    if (numel > 0) faults_ += concat("\n  missing: ", name);
    return;
  }
  Saved& saved = found->second;
  saved.is_expected = true;
  if (saved.whole) {
    if (saved.whole->sizes != sizes || saved.whole->type != type)
      faults_ += concat("\n  ", name, " is ", describe(*saved.whole), ", not ", c10::toString(type), " ", sizes);
    if (!saved.parts.empty()) faults_ += concat("\n  ", name, " is there whole and in parts");
    return;
  }
  int64_t end = 0;
  for (const auto& [first, part] : saved.parts) {
    if (part.sizes.size() != 1 || part.type != type)
      faults_ += concat("\n  ", to_text({name, first}), " is ", describe(part), ", not flat ", c10::toString(type));
    if (first > numel || part.numel() > numel - first) {
      faults_ += concat("\n  ", to_text({name, first}), " has ", part.numel(), " elements, of ", numel, " in all");
      return;
    }
    if (first != end)
      faults_ += concat("\n  ", name, first > end ? " lacks elements " : " has elements twice, ", std::min(first, end),
                        " to ", std::max(first, end));
    end = first + part.numel();
  }
  if (end != numel) faults_ += concat("\n  ", name, " has ", end, " elements in parts, not ", numel);
}

std::string SavedState::faults() const {
  std::string text = faults_;
  for (const auto& [name, saved] : saved_)
    if (!saved.is_expected) text += concat("\n  unexpected: ", name);
  return text;
}

void SavedState::copy(const std::string& name, int64_t first, at::Tensor to) const {
  const Saved& saved = saved_.at(name);
  if (to.numel() == 0) return;
  if (saved.whole) {
    saved.whole->read(first, to);
    return;
  }
  for (const auto& [begin, part] : saved.parts) {
    const int64_t from = std::max(begin, first), end = std::min(begin + part.numel(), first + to.numel());
    if (from < end) part.read(from - begin, to.narrow(0, from - first, end - from));
  }
}

}  // namespace dsft::zero
