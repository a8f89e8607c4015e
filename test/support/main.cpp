#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "catch_amalgamated.hpp"

int main(int argc, char** argv) {
  const int code = Catch::Session().run(argc, argv);
  // As dsft-trainer ends: without the static destructors of LibTorch's CUDA libraries.
  std::cout.flush();
  std::fflush(nullptr);
  std::_Exit(code);
}
