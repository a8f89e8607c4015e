// The names that every chat template knows.
#include <algorithm>
#include <array>
#include <ctime>

#include "text/jinja_fault.h"
#include "text/jinja_objects.h"

namespace dsft::text::jinja {

namespace {

constexpr uint64_t kMaxRange = 100'000;

Value range(Interpreter& interpreter, Arguments arguments) {
  const bool has_start = arguments.positional.size() > 1;
  const Bound bound("range", std::move(arguments), {"start", "stop", "step"}, 1);
  const int64_t start = has_start ? bound.integer(0, 0) : 0;
  const int64_t stop = has_start ? bound.integer(1, 0) : bound.integer(0, 0);
  const int64_t step = bound.integer(2, 1);
  if (step == 0) fail_render("range() arg 3 must not be zero");
  // the distance between two int64 may need 64 bits without a sign, and start + count * step leave 64 bits
  const auto distance = [](int64_t from, int64_t to) {
    return static_cast<uint64_t>(to) - static_cast<uint64_t>(from);
  };
  const uint64_t count = step > 0 && start < stop   ? (distance(start, stop) - 1) / static_cast<uint64_t>(step) + 1
                         : step < 0 && start > stop ? (distance(stop, start) - 1) / distance(step, 0) + 1
                                                    : 0;
  if (count > kMaxRange) fail_render("range() has more than ", kMaxRange, " elements");
  std::vector<Value> items;
  for (uint64_t i = 0; i < count; ++i) {
    items.emplace_back(static_cast<int64_t>(static_cast<uint64_t>(start) + i * static_cast<uint64_t>(step)));
  }
  interpreter.charge(items.size() / 16);
  return Value(std::shared_ptr<const Sequence>(make_sequence(SequenceType::kRange, std::move(items))));
}

// dict(mapping or pairs, **keywords); a copy of a message stays that message.
Mapping mapping_of(Arguments arguments, std::string_view function) {
  if (arguments.positional.size() > 1)
    fail_render(function, " expected at most 1 argument, got ", arguments.positional.size());
  Mapping mapping;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional.front();
    if (source.as_mapping()) {
      mapping = *source.as_mapping();
    } else {
      for (const Value& pair : iterate(source)) {
        const std::vector<Value> parts = iterate(pair);
        if (parts.size() != 2)
          fail_render("dictionary update sequence element has length ", parts.size(), "; 2 is required");
        mapping.set(parts[0], parts[1]);
      }
    }
  }
  for (auto& [name, value] : arguments.keywords) mapping.set(Value::words(name), std::move(value));
  return mapping;
}

Value dict(Interpreter& interpreter, Arguments arguments) {
  if (!arguments.positional.empty() && arguments.positional.front().as_sequence()) {
    const size_t size = arguments.positional.front().as_sequence()->items.size();
    interpreter.charge(size * size / 64);
  }
  return make_mapping(mapping_of(std::move(arguments), "dict"));
}

Value make_namespace(Interpreter& interpreter, Arguments arguments) {
  auto space = std::make_shared<Namespace>();
  space->attributes = mapping_of(std::move(arguments), "namespace");
  interpreter.watch([space] { space->attributes.entries.clear(); });
  return Value(std::shared_ptr<Object>(space));
}

/// cycler(a, b, ...): next(), current, reset().
struct Cycler : Object, std::enable_shared_from_this<Cycler> {
  std::vector<Value> items;
  size_t position = 0;

  std::string type_name() const override { return "Cycler"; }
  bool is_callable() const override { return false; }
  bool attribute(Interpreter&, std::string_view name, Value& value) override {
    if (name == "current") return value = items[position], true;
    if (name == "pos") return value = Value(static_cast<int64_t>(position)), true;
    if (name != "next" && name != "reset") return false;
    const bool is_next = name == "next";
    value = Value(std::shared_ptr<Object>(
        std::make_shared<Function>(std::string(name), [self = shared_from_this(), is_next](Interpreter&, Arguments) {
          const Value current = is_next ? self->items[self->position] : Value();
          self->position = is_next ? (self->position + 1) % self->items.size() : 0;
          return current;
        })));
    return true;
  }
};

Value make_cycler(Interpreter& interpreter, Arguments arguments) {
  if (arguments.positional.empty()) fail_render("at least one item has to be provided");
  auto cycler = std::make_shared<Cycler>();
  cycler->items = std::move(arguments.positional);
  interpreter.watch([cycler] { cycler->items.clear(); });
  return Value(std::shared_ptr<Object>(cycler));
}

/// joiner(separator): "" the first time, then the separator.
Value make_joiner(Interpreter&, Arguments arguments) {
  const Bound bound("joiner", std::move(arguments), {"sep"});
  const Value separator = bound.has(0) ? bound[0] : Value::words(", ");
  const auto is_used = std::make_shared<bool>(false);
  return make_method("joiner", separator, [separator, is_used](Interpreter&, Arguments) {
    return std::exchange(*is_used, true) ? separator : Value(Text());
  });
}

Value raise_exception(Interpreter&, Arguments arguments) {
  const Bound bound("raise_exception", std::move(arguments), {"message"}, 1);
  fail_render("the template refuses the conversation: ", to_string(bound[0]));
}

Value strftime_now(Interpreter&, Arguments arguments) {
  const Bound bound("strftime_now", std::move(arguments), {"format"}, 1);
  const std::string format = bound.text(0).bytes();
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 1024> buffer{};
  const size_t size = format.empty() ? 0 : std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  return Value::words(std::string(buffer.data(), size));
}

Value refuse_lipsum(Interpreter&, Arguments) {
  fail_render("lipsum() is not supported: it is random");
}

}  // namespace

Value find_global(const std::string& name) {
  using Entry = std::pair<std::string_view, Value (*)(Interpreter&, Arguments)>;
  static constexpr std::array<Entry, 8> kGlobals = {{{"range", range},
                                                     {"dict", dict},
                                                     {"namespace", make_namespace},
                                                     {"cycler", make_cycler},
                                                     {"joiner", make_joiner},
                                                     {"raise_exception", raise_exception},
                                                     {"strftime_now", strftime_now},
                                                     {"lipsum", refuse_lipsum}}};
  const auto it =
      std::find_if(kGlobals.begin(), kGlobals.end(), [&](const Entry& entry) { return entry.first == name; });
  if (it == kGlobals.end()) return Value::undefined("");
  return Value(std::shared_ptr<Object>(std::make_shared<Function>(name, it->second)));
}

}  // namespace dsft::text::jinja
