#include "nn/narrow_adapters.h"

#include <torch/types.h>

namespace dsft::nn {
namespace {

bool have_equal_shapes(const NarrowAdapters& kept, const NarrowAdapters& made) {
  if (kept.a.sizes() != made.a.sizes() || kept.b.size() != made.b.size()) return false;
  for (size_t i = 0; i < kept.b.size(); ++i)
    if (kept.b[i].sizes() != made.b[i].sizes()) return false;
  return true;
}

}  // namespace

const NarrowAdapters& KeptNarrowAdapters::get(const Linear* first, const std::function<NarrowAdapters()>& make) {
  const auto found = entries_.find(first);
  if (found != entries_.end() && found->second.round == round_) return found->second.adapters;
  const NarrowAdapters made = make();
  if (found != entries_.end() && have_equal_shapes(found->second.adapters, made)) {
    Entry& entry = found->second;
    entry.adapters.a.copy_(made.a);
    for (size_t i = 0; i < made.b.size(); ++i) entry.adapters.b[i].copy_(made.b[i]);
    entry.round = round_;
    return entry.adapters;
  }
  // where nothing had to be made narrow they are views of the adapters themselves
  Entry entry{{made.a.clone(), {}}, round_};
  for (const at::Tensor& b : made.b) entry.adapters.b.push_back(b.clone());
  return entries_.insert_or_assign(first, std::move(entry)).first->second.adapters;
}

}  // namespace dsft::nn
