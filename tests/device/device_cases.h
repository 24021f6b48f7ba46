// What must hold of device memory on an emulated device and on a real one. Each returns how much was wrong, and tells
// what on standard error.
#pragma once

#include "device_job.h"

namespace hora::device_test {

struct Setting {
  int size = 1;
  Runtimes runtimes;
  bool nccl = false;  // it must come to stand
};

// Every type and operator, through the ordered front.
int wrongs_of_reductions(const Setting& setting);
int wrongs_of_broadcasts(const Setting& setting);
int wrongs_of_named_tensors(const Setting& setting);
int wrongs_of_disagreements(const Setting& setting);
// Of at least three ranks one dies with an operation on its way.
int wrongs_of_deaths(const Setting& setting);

}  // namespace hora::device_test
