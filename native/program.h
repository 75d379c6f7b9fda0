// Calls that were made once, in order, and can be made again in one call from Python: a step's forward pass.
//
// Between record() and recorded() each kernel that the thread calls from Python is run as always and noted, with the
// numbers it was given. Whoever made the calls keeps the memory behind their addresses.
#pragma once

#include "arguments.h"

namespace quire {

// Notes a call that succeeded, if its thread records. False, with the exception set, where there is no memory for it.
bool note(const Kernel &kernel, const Value *values, Py_ssize_t count);

}  // namespace quire
