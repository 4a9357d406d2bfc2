/* images.h - the kernels embedded in this build: a row for each PTX and cubin, in the Makefile's order.
 *
 * They are compressed, each by itself, and unpacked when a device loads them: 28 MB are 2.7, and take 1 ms a MB.
 * Tests: tests/unit/test_device.c */
#ifndef CDL_IMAGES_H
#define CDL_IMAGES_H

#include "base/status.h"

typedef struct {
    const char *name;            /* file of cuda/ without suffixes: "linear_8bit"; NULL ends the table         */
    const uint8_t *packed, *end; /* a zstd frame that tells its content's size                                 */
    uint32_t capability;         /* 80: of 8.0                                                                 */
    uint32_t is_ptx;
    uint32_t exact;              /* runs on that capability alone: sm_90a                                      */
} cdl_image;

extern const cdl_image cdl_images[]; /* build/cuda/images.S */

uint32_t cdl_image_count(void);
/* The best image of module `name` for a GPU: a cubin of its own generation (the highest minor that is not above
 * its own; not when ptx_only), else the highest PTX that is not above it; exact ones on their own alone. -1: none;
 * *known tells whether the module exists at all. */
int cdl_image_pick(const cdl_image *images, const char *name, uint32_t capability, bool ptx_only, bool *known);
/* The image as nvcc made it, n bytes and a NUL behind them; free with cdl_mem_free. FORMAT: it is damaged. */
CUDDLE_CHECK cuddle_status cdl_image_unpack(uint8_t **out, size_t *n, const cdl_image *image);

#endif
