/* exec_avx2.c - the operations for CPUs with AVX2. */
#define EMU_OPS emu_ops_avx2
#include "exec_body.inc"
