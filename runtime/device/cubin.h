/* cubin.h - what a kernel takes of a GPU, read from its cubin: registers, shared and local memory, occupancy.
 *
 * The virtual GPU runs PTX, so the figures of real code come from the cubin that lies beside it.
 * Tests: tests/unit/test_cubin.c */
#ifndef CDL_CUBIN_H
#define CDL_CUBIN_H

#include "base/status.h"

typedef struct {
    uint32_t registers;          /* of a thread                                              */
    uint32_t local_bytes;        /* of a thread: stack, spilled registers                    */
    uint32_t shared_bytes;       /* static, of a block                                       */
} cdl_cubin_kernel;

/* kernel's row of the ELF file at [data, data + n). NOTFOUND; FORMAT: it is no cubin, or damaged. */
CUDDLE_CHECK cuddle_status cdl_cubin_read(cdl_cubin_kernel *out, const uint8_t *data, size_t n, const char *kernel);

/* Blocks that one multiprocessor of compute capability 8.0 holds at once (CUDA's occupancy rules). */
uint32_t cdl_cubin_blocks_sm80(const cdl_cubin_kernel *k, uint32_t threads, uint32_t dynamic_shared_bytes);

#endif
