#include "scratch.h"

#include <pthread.h>

#include <cstdlib>

namespace quire {

namespace {

constexpr int64_t UNIT = 1 << 16;

struct alignas(64) Block {
  int64_t bytes;  // behind this
};

pthread_key_t key;
pthread_once_t is_made = PTHREAD_ONCE_INIT;

void make_key() { pthread_key_create(&key, std::free); }

}  // namespace

char *scratch(int64_t bytes) {
  pthread_once(&is_made, make_key);
  Block *block = static_cast<Block *>(pthread_getspecific(key));
  if (block != nullptr && block->bytes >= bytes) return reinterpret_cast<char *>(block + 1);
  std::free(block);
  const int64_t whole = (bytes + int64_t(sizeof(Block)) + UNIT - 1) / UNIT * UNIT;
  block = static_cast<Block *>(std::aligned_alloc(64, size_t(whole)));
  pthread_setspecific(key, block);
  if (block == nullptr) return nullptr;
  block->bytes = whole - int64_t(sizeof(Block));
  return reinterpret_cast<char *>(block + 1);
}

}  // namespace quire
