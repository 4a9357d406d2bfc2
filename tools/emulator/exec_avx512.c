/* exec_avx512.c - the operations for CPUs with AVX512. */
#define EMU_OPS emu_ops_avx512
#include "exec_body.inc"
