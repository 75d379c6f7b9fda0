// Checks the kernels of every level that this processor has (or of those named), without Python: against sums in float64
// over odd shapes, and that a row's bits depend on nothing but the row. Prints one line a level and family; exits with 1
// when a check failed.
#include "tests/check.h"

using namespace quire;

namespace {

struct Family {
  const char *name;
  void (*check)(tests::Report &);
};
constexpr Family FAMILIES[] = {{"gemm", tests::check_gemm},
                               {"rows", tests::check_rows},
                               {"draws", tests::check_draws},
                               {"attention", tests::check_attention}};

}  // namespace

int main(int count, char **names) {
  bool failed = false;
  std::printf("best %s\n", isa_name(best_isa()));
  for (int level = 0; level < NUM_ISAS; ++level) {
    bool is_asked = count == 1;
    for (int i = 1; i < count; ++i) is_asked |= std::strcmp(names[i], isa_name(Isa(level))) == 0;
    if (!is_asked || !use_isa(Isa(level))) continue;
    for (const Family &family : FAMILIES) {
      tests::Report report;
      family.check(report);
      std::printf("%s %s: %lld checks, %lld failed\n", isa_name(Isa(level)), family.name, (long long)report.checks(),
                  (long long)report.failures());
      failed |= report.failures() > 0 || report.checks() == 0;
    }
  }
  return failed ? 1 : 0;
}
