#include "cpu/vec_avx2.h"

#define SET avx2
#include "cpu/rows.inc"

#define ATTEND_QUERIES 2
#define ATTEND_SIZES(X) X(1) X(2)
#include "cpu/attention.inc"
