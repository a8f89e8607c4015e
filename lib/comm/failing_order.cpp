#include "comm/failing_order.h"

#include <chrono>
#include <thread>

namespace dsft::comm {

void let_another_rank_fail_first() {
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
}

}  // namespace dsft::comm
