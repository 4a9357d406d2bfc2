/* scan_starts.c - for any processor. */
#define IN_STARTS static inline __attribute__((always_inline))
#define put_bits cdl_bits_put
#include "token/scan_starts.h"

size_t cdl_scan_ends_plain(const cdl_scan_map *m, cdl_scan scan, size_t at, uint32_t *end, size_t most)
{
    return find_ends(m, scan, at, end, most);
}
