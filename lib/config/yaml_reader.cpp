#include "config/yaml_reader.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <map>
#include <optional>
#include <sstream>
#include <unordered_map>
#include <utility>

#include "base/error.h"

namespace dsft::config {
namespace {

/// Ends the reading of a document that crosses a bound.
struct BoundCrossed {
  Position position;
  std::string message;
};

/// What a tree takes.
struct Extent {
  int64_t num_nodes = 0;
  int64_t num_bytes = 0;  ///< of texts and keys
};

void add_extent(const Node& node, Extent& extent) {
  ++extent.num_nodes;
  extent.num_bytes += static_cast<int64_t>(node.text.size());
  for (const Node& item : node.items) add_extent(item, extent);
  for (const Entry& entry : node.entries) {
    extent.num_bytes += static_cast<int64_t>(entry.key.size());
    add_extent(entry.value, extent);
  }
}

/// Builds the tree from the parser's events: yaml-cpp's own tree forgets equal keys and where a key stood.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const std::string& text, const std::string& name, std::vector<Fault>& faults)
      : text_(text), name_(name), faults_(faults) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Node node = make_node(mark, Node::Kind::kNull);
    // `key:` and `key: null` are the same event, but mean different things to a reader of the recipe
    for (const char* word : {"~", "null", "Null", "NULL"}) {
      if (mark.pos >= 0 && text_.compare(static_cast<size_t>(mark.pos), std::string(word).size(), word) == 0)
        node.text = word;
    }
    finish(std::move(node), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) throw BoundCrossed{position(mark), "this alias stands inside the value that it names"};
    Extent extent{num_nodes_, num_expanded_bytes_};
    add_extent(found->second, extent);
    num_nodes_ = extent.num_nodes;
    num_expanded_bytes_ = extent.num_bytes;
    check_size(mark);
    finish(found->second, 0);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node = make_node(mark, Node::Kind::kScalar);
    node.text = value;
    node.is_string = tag == "!" || tag == "tag:yaml.org,2002:str";
    finish(std::move(node), anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, Node::Kind::kSequence, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, Node::Kind::kMap, anchor);
  }
  void OnMapEnd() override { close(); }

  /// The document.
  Node take() { return std::move(root_); }

 private:
  /// A list or map whose end has not come yet.
  struct Open {
    Node node;
    YAML::anchor_t anchor = 0;
    std::optional<Node> key;                         ///< of a map: the key that waits for its value
    std::vector<Node> merges;                        ///< of a map: the values of its merge keys
    std::unordered_map<std::string, int> key_lines;  ///< of a map: where each of its keys was first written
  };

  Position position(const YAML::Mark& mark) const { return {name_, mark.line + 1, mark.column + 1}; }

  void check_size(const YAML::Mark& mark) const {
    if (num_nodes_ > kMaxNodes) {
      throw BoundCrossed{position(mark), concat("the recipe has more than ", kMaxNodes, " values, aliases expanded")};
    }
    if (num_expanded_bytes_ > kMaxExpandedBytes) {
      throw BoundCrossed{position(mark), concat("aliases stand for more than ", kMaxExpandedBytes, " bytes")};
    }
  }

  Node make_node(const YAML::Mark& mark, Node::Kind kind) {
    ++num_nodes_;
    check_size(mark);
    Node node;
    node.kind = kind;
    node.position = position(mark);
    return node;
  }

  void open(const YAML::Mark& mark, Node::Kind kind, YAML::anchor_t anchor) {
    if (open_.size() >= kMaxDepth)
      throw BoundCrossed{position(mark), concat("nested deeper than ", kMaxDepth, " levels")};
    open_.push_back({make_node(mark, kind), anchor, std::nullopt, {}, {}});
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    for (const Node& source : done.merges) merge(done, source);
    finish(std::move(done.node), done.anchor);
  }

  void finish(Node node, YAML::anchor_t anchor) {
    if (anchor != 0) anchors_[anchor] = node;
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.is_sequence()) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.key) {
      parent.key = std::move(node);
    } else {
      const Node key = *std::exchange(parent.key, std::nullopt);
      add_entry(parent, key, std::move(node));
    }
  }

  void add_entry(Open& parent, const Node& key, Node value) {
    if (!key.is_scalar()) {
      add_fault(key.position, path_of(""), "a key must be a word, not " + describe(key));
      return;
    }
    if (key.text.size() > kMaxKeyBytes)
      throw BoundCrossed{key.position, concat("a key is longer than ", kMaxKeyBytes, " bytes")};
    if (key.text == "<<" && !key.is_string) {
      if (value.is_sequence()) {
        parent.merges.insert(parent.merges.end(), value.items.begin(), value.items.end());
      } else {
        parent.merges.push_back(std::move(value));
      }
      return;
    }
    const auto [first, is_new] = parent.key_lines.emplace(key.text, key.position.line);
    if (!is_new) {
      add_fault(key.position, path_of(key.text),
                concat("is written twice: first at line ", first->second, ", again here; remove one of them"));
      return;
    }
    parent.node.entries.push_back({key.text, key.position, std::move(value)});
  }

  /// The full key of an entry of the innermost open map.
  std::string path_of(const std::string& key) const {
    std::string path;
    for (size_t i = 0; i + 1 < open_.size(); ++i) {
      if (open_[i].key) path += open_[i].key->text + ".";
    }
    return path + key;
  }

  /// YAML 1.1 merge key: entries of another map where the map has none of that name.
  void merge(Open& map, const Node& source) {
    if (!source.is_map()) add_fault(source.position, "<<", "`<<` merges a map, not " + describe(source));
    for (const Entry& entry : source.entries) {
      if (map.key_lines.emplace(entry.key, entry.key_position.line).second) map.node.entries.push_back(entry);
    }
  }

  void add_fault(const Position& at, std::string path, std::string message) {
    if (faults_.size() >= kMaxFaults) throw BoundCrossed{at, "further faults are not listed"};
    faults_.push_back({at, std::move(path), std::move(message)});
  }

  const std::string& text_;
  const std::string& name_;
  std::vector<Fault>& faults_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Node> anchors_;
  Node root_;
  int64_t num_nodes_ = 0;
  int64_t num_expanded_bytes_ = 0;
};

/// The place of the first byte that no YAML text holds, or nullopt. yaml-cpp would read a binary file as if it were
/// text.
std::optional<Position> find_control_byte(const std::string& text, const std::string& name) {
  Position position{name, 1, 1};
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' && c != '\r') return position;
    ++position.column;
    if (c == '\n') {
      ++position.line;
      position.column = 1;
    }
  }
  return std::nullopt;
}

}  // namespace

Node read_yaml(const std::string& text, const std::string& name, std::vector<Fault>& faults) {
  if (text.size() > kMaxRecipeBytes) {
    faults.push_back({{name, 0, 0}, "", concat("has ", text.size(), " bytes; a recipe has at most ", kMaxRecipeBytes)});
    return Node{};
  }
  if (const auto position = find_control_byte(text, name)) {
    faults.push_back({*position, "", "a control byte: this is not a YAML text file"});
    return Node{};
  }
  TreeBuilder builder(text, name, faults);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    const bool has_document = parser.HandleNextDocument(builder);
    Node root = builder.take();
    TreeBuilder second(text, name, faults);
    if (has_document && parser.HandleNextDocument(second)) {
      faults.push_back({second.take().position, "", "a second YAML document begins here; a recipe is one document"});
    }
    return root;
  } catch (const YAML::Exception& error) {
    const bool has_mark = !error.mark.is_null();
    const Position position =
        has_mark ? Position{name, error.mark.line + 1, error.mark.column + 1} : Position{name, 0, 0};
    faults.push_back({position, "", concat("not valid YAML: ", error.msg)});
  } catch (const BoundCrossed& bound) {
    faults.push_back({bound.position, "", bound.message});
  }
  return Node{};
}

}  // namespace dsft::config
