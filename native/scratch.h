// Memory that a kernel needs while it runs. Its address may change from call to call, so no argument holds it.
#pragma once

#include <cstdint>

namespace quire {

// At least so many bytes, at a multiple of 64, the calling thread's alone until it asks again; nullptr when there are
// none. What a thread has only grows, and goes with it.
char *scratch(int64_t bytes);

}  // namespace quire
