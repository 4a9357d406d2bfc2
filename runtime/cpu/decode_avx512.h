/* decode_avx512.h - decode.inc for the AVX-512 and AMX sets. */
#ifndef CDL_DECODE_AVX512_H
#define CDL_DECODE_AVX512_H

#include "cpu/lanes_avx512.h"

#include "cpu/decode.inc"

#endif
