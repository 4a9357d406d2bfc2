#include "format/dtype.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"

static const cdl_dtype_info table[CDL_DTYPE_COUNT] = {
#define X(id, name, block, bytes, st, ggml, ggml_name) { name, st, ggml_name, ggml, block, bytes },
#include "format/dtype.def"
#undef X
};

const cdl_dtype_info *cdl_dtype_get(cdl_dtype t)
{
    return &table[t];
}

bool cdl_dtype_from_name(cdl_dtype *out, const char *name)
{
    for (int t = 0; t < CDL_DTYPE_COUNT; t++) {
        if (!strcasecmp(table[t].name, name)) {
            *out = (cdl_dtype)t;
            return true;
        }
    }
    return false;
}

bool cdl_dtype_from_safetensors(cdl_dtype *out, const char *name, size_t n)
{
    for (int t = 0; t < CDL_DTYPE_COUNT; t++) {
        const char *s = table[t].safetensors;
        if (s && strlen(s) == n && !memcmp(s, name, n)) {
            *out = (cdl_dtype)t;
            return true;
        }
    }
    return false;
}

bool cdl_dtype_from_ggml(cdl_dtype *out, uint32_t number)
{
    for (int t = 0; t < CDL_DTYPE_COUNT; t++) {
        if (table[t].ggml >= 0 && (uint32_t)table[t].ggml == number) {
            *out = (cdl_dtype)t;
            return true;
        }
    }
    return false;
}

bool cdl_dtype_row_bytes(size_t *out, cdl_dtype t, uint64_t n)
{
    return n % table[t].block == 0 && cdl_mul(n / table[t].block, table[t].bytes, out);
}
