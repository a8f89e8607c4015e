#include "comm/compared_communicator.h"

#include <torch/types.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "comm/failing_order.h"
#include "comm/small_collectives.h"

namespace dsft::comm {
namespace {

constexpr int64_t kRecordBytes = 1024;
constexpr const char* kHasEnded = "nothing: it has ended";

std::string read_record(const uint8_t* bytes) {
  const uint8_t* end = std::find(bytes, bytes + kRecordBytes, uint8_t{0});
  return {reinterpret_cast<const char*>(bytes), static_cast<size_t>(end - bytes)};
}

/// Each call and who is about to make it, by the first of these ranks.
std::string list(const std::vector<std::string>& calls) {
  std::map<std::string, std::string> ranks_of;
  for (size_t rank = 0; rank < calls.size(); ++rank) {
    std::string& ranks = ranks_of[calls[rank]];
    ranks += concat(ranks.empty() ? "" : ", ", rank);
  }
  std::string text;
  for (size_t rank = 0; rank < calls.size(); ++rank)
    if (const auto found = ranks_of.extract(calls[rank]))
      text += concat("\n  rank ", found.mapped(), ": ", found.key());
  return text;
}

const char* word_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return "sum";
    case ReduceOp::kMax:
      return "maximum";
    case ReduceOp::kMin:
      break;
  }
  return "minimum";
}

class ComparedCommunicator final : public Communicator {
 public:
  ComparedCommunicator(std::unique_ptr<Communicator> communicator, std::shared_ptr<CallComparison> comparison,
                       const char* kind)
      : communicator_(std::move(communicator)), comparison_(std::move(comparison)), kind_(kind) {}

  int rank() const override { return communicator_->rank(); }
  int size() const override { return communicator_->size(); }
  void name_next(std::string_view subject) override {
    subject_ = subject;
    communicator_->name_next(subject);
  }

  std::unique_ptr<Work> start_all_reduce(at::Tensor& tensor, ReduceOp op) override {
    compare("all-reduce", concat(" (", word_of(op), ")"), &tensor);
    return communicator_->start_all_reduce(tensor, op);
  }
  std::unique_ptr<Work> start_reduce_scatter(at::Tensor& output, const at::Tensor& input) override {
    compare("reduce-scatter", "", &input);
    return communicator_->start_reduce_scatter(output, input);
  }
  std::unique_ptr<Work> start_all_gather(at::Tensor& output, const at::Tensor& input) override {
    compare("all-gather", "", &input);
    return communicator_->start_all_gather(output, input);
  }
  at::Tensor make_slice(int64_t size, const at::TensorOptions& options) override {
    compare("slice", concat(" of ", at::toString(c10::typeMetaToScalarType(options.dtype())), " ", size), nullptr);
    return communicator_->make_slice(size, options);
  }
  bool reads_slices_in_place() const override { return communicator_->reads_slices_in_place(); }
  std::unique_ptr<Work> start_broadcast(at::Tensor& tensor, int root) override {
    compare("broadcast", concat(" (from rank ", root, ")"), &tensor);
    return communicator_->start_broadcast(tensor, root);
  }
  void barrier() override {
    compare("barrier", "", nullptr);
    communicator_->barrier();
  }
  void check() override { communicator_->check(); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    compare("split", "", nullptr);
    auto part = communicator_->split(color, key);
    return std::make_unique<ComparedCommunicator>(std::move(part), comparison_->split(color, key), kind_);
  }
  void abort(int exit_code, const std::string& reason) noexcept override { communicator_->abort(exit_code, reason); }

 private:
  void compare(const char* name, const std::string& argument, const at::Tensor* tensor) {
    std::string call = concat(kind_, name, argument, " #", ++num_calls_);
    if (tensor != nullptr) call += concat(" of ", at::toString(tensor->scalar_type()), " ", tensor->sizes());
    if (!subject_.empty()) call += concat(", ", std::exchange(subject_, {}));
    comparison_->compare(call);
  }

  std::unique_ptr<Communicator> communicator_;
  std::shared_ptr<CallComparison> comparison_;
  const char* kind_;
  int64_t num_calls_ = 0;
  std::string subject_;  ///< of the next call
};

}  // namespace

CallComparison::~CallComparison() {
  if (has_failed_ || std::uncaught_exceptions() > 0) return;
  try {
    tell(kHasEnded);  // ranks that still call fail by it
  } catch (const Error&) {
    // the others have ended another way
  }
}

std::vector<std::string> CallComparison::tell(const std::string& call) {
  at::Tensor own = at::zeros({kRecordBytes}, at::kByte);
  std::copy_n(call.begin(), std::min<size_t>(call.size(), kRecordBytes - 1), own.data_ptr<uint8_t>());
  at::Tensor all = at::empty({channel_->size() * kRecordBytes}, at::kByte);
  channel_->name_next("the comparison of calls");
  channel_->all_gather(all, own);
  std::vector<std::string> calls;
  for (int64_t rank = 0; rank < channel_->size(); ++rank)
    calls.push_back(read_record(all.const_data_ptr<uint8_t>() + rank * kRecordBytes));
  return calls;
}

void CallComparison::compare(const std::string& call) {
  const std::vector<std::string> calls = tell(call);
  if (std::all_of(calls.begin(), calls.end(), [&](const std::string& other) { return other == calls[0]; })) return;
  has_failed_ = true;
  const auto speaker = std::find_if(calls.begin(), calls.end(), [](const auto& other) { return other != kHasEnded; });
  const auto speaking_rank = static_cast<int>(speaker - calls.begin());
  if (channel_->rank() != speaking_rank) {
    let_another_rank_fail_first();
    fail(ErrorKind::kCommunication, "the ranks call different collectives, which rank ", speaking_rank,
         " lists; this one: ", call);
  }
  fail(ErrorKind::kCommunication, "the ranks call different collectives:", list(calls),
       "\nThis is a bug in dsft; please report it with these lines and the output of `dsft env`.");
}

std::shared_ptr<CallComparison> CallComparison::split(int color, int key) {
  return std::make_shared<CallComparison>(channel_->split(color, key));
}

std::shared_ptr<CallComparison> make_call_comparison(Communicator& control) {
  const char* asked = std::getenv("DSFT_DEBUG_COLLECTIVES");
  const bool is_asked = asked != nullptr && std::string_view(asked) == "1";
  if (control.size() == 1 || all_reduce_value(control, int64_t{is_asked}, ReduceOp::kMax) == 0) return nullptr;
  return std::make_shared<CallComparison>(control.split(/*color=*/0, /*key=*/control.rank()));
}

std::unique_ptr<Communicator> compare_calls(std::unique_ptr<Communicator> communicator,
                                            std::shared_ptr<CallComparison> comparison, const char* kind) {
  if (communicator == nullptr || comparison == nullptr) return communicator;
  return std::make_unique<ComparedCommunicator>(std::move(communicator), std::move(comparison), kind);
}

}  // namespace dsft::comm
