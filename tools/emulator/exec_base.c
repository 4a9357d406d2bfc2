/* exec_base.c - the operations for any CPU. */
#define EMU_OPS emu_ops_base
#include "exec_body.inc"
