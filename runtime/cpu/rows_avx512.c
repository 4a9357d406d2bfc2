#include "cpu/vec_avx512.h"

#define SET avx512
#include "cpu/rows.inc"

#define ATTEND_QUERIES 6
#define ATTEND_SIZES(X) X(1) X(2) X(3) X(4) X(5) X(6)
#include "cpu/attention.inc"
