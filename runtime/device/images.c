#include "device/images.h"

#include <string.h>
#include <zstd.h>

#include "base/mem.h"

uint32_t cdl_image_count(void)
{
    uint32_t n = 0;
    while (cdl_images[n].name)
        n++;
    return n;
}

/* A cubin runs on its own generation only; of PTX the driver makes code for any later GPU, unless it is exact. */
static bool fits(const cdl_image *i, uint32_t capability)
{
    if (i->exact)
        return i->capability == capability;
    return i->capability <= capability && (i->is_ptx || i->capability / 10 == capability / 10);
}

int cdl_image_pick(const cdl_image *images, const char *name, uint32_t capability, bool ptx_only, bool *known)
{
    int best = -1;
    *known = false;
    for (int i = 0; images[i].name; i++) {
        if (strcmp(images[i].name, name))
            continue;
        *known = true;
        if (!fits(&images[i], capability) || (ptx_only && !images[i].is_ptx))
            continue;
        bool better = best < 0 || images[i].is_ptx < images[best].is_ptx
            || (images[i].is_ptx == images[best].is_ptx && images[i].capability > images[best].capability);
        if (better)
            best = i;
    }
    return best;
}

cuddle_status cdl_image_unpack(uint8_t **out, size_t *n, const cdl_image *image)
{
    enum { BYTES_MAX = 64 << 20 };
    size_t packed = (size_t)(image->end - image->packed);
    unsigned long long bytes = ZSTD_getFrameContentSize(image->packed, packed);
    *out = NULL;
    *n = 0;
    if (bytes > BYTES_MAX) /* an unknown size, or no frame at all, is a great number */
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "the kernels %s in this build are damaged: no size; build it again",
                image->name);
    uint8_t *data = cdl_mem_alloc(bytes + 1);
    if (!data)
        return cdl_status_nomem("the kernels' code");
    size_t got = ZSTD_decompress(data, bytes, image->packed, packed);
    if (got != bytes) {
        cdl_mem_free(data);
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "the kernels %s in this build are damaged: %s; build it again",
                image->name, ZSTD_isError(got) ? ZSTD_getErrorName(got) : "cut");
    }
    data[bytes] = '\0';
    *out = data;
    *n = bytes;
    return CUDDLE_OK;
}
