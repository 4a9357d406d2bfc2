/* images.h - the kernels embedded in this build: a row for each PTX and cubin, in the Makefile's order. */
#ifndef CDL_IMAGES_H
#define CDL_IMAGES_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *name;            /* file of cuda/ without suffixes: "linear_8bit"; NULL ends the table         */
    const uint8_t *data, *end;   /* a PTX text ends with a NUL                                                 */
    uint32_t capability;         /* 80: of 8.0                                                                 */
    uint32_t is_ptx;
} cdl_image;

extern const cdl_image cdl_images[]; /* build/cuda/images.S */

uint32_t cdl_image_count(void);
/* The best image of module `name` for a GPU: a cubin of its own generation (the highest minor that is not above
 * its own; not when ptx_only), else the highest PTX that is not above it. -1: none; *known tells whether the
 * module exists at all. */
int cdl_image_pick(const cdl_image *images, const char *name, uint32_t capability, bool ptx_only, bool *known);

#endif
