#include "cpu/state.h"

#include "cpu/cpu.h"

size_t cdl_cpu_page_bytes(cdl_dtype t, uint32_t kv_heads, uint32_t key_dim, uint32_t value_dim)
{
    size_t bytes = (size_t)kv_heads * (key_dim + value_dim) * CDL_PAGE_TOKENS * (t == CDL_DTYPE_F32 ? 4 : 2);
    return (bytes + 63) / 64 * 64;
}
