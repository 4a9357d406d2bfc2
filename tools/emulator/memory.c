/* memory.c - the devices' memory: an arena each at its own address, red zones, shadows. */
#include "emu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { GRANULE = 256, DEVICES_MAX = 8 };
#define ARENA_BASE 0x200000000000ull
#define ARENA_STEP 0x010000000000ull
#define ARENA_BYTES (64ull << 30)
#define REPORTED_BYTES (16ull << 30)

enum emu_checks emu_check_level = CHECKS_CHEAP;
static emu_device devices[DEVICES_MAX];
static int device_count;

static void *reserve(uint64_t at, size_t bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED_NOREPLACE : 0);
    void *p = mmap((void *)at, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    return p == MAP_FAILED || (at && p != (void *)at) ? NULL : p;
}

static bool device_open(emu_device *d, int index)
{
    const char *memory = getenv("CUDDLE_VGPU_MEMORY");
    d->index = index;
    d->base = ARENA_BASE + (uint64_t)index * ARENA_STEP;
    d->bytes = ARENA_BYTES;
    d->top = d->base + GRANULE;
    d->limit = memory ? strtoull(memory, NULL, 0) : REPORTED_BYTES;
    d->limit = d->limit < ARENA_BYTES / 2 ? d->limit : ARENA_BYTES / 2;
    d->valid = reserve(0, ARENA_BYTES / GRANULE * sizeof *d->valid);
    if (emu_check_level == CHECKS_ALL) {
        d->lines.init = reserve(0, ARENA_BYTES / 8);
        d->lines.line = reserve(0, ARENA_BYTES / 64 * sizeof *d->lines.line);
        d->lines.reader = reserve(0, ARENA_BYTES * sizeof *d->lines.reader);
        d->lines.writer = reserve(0, ARENA_BYTES * sizeof *d->lines.writer);
        d->by_kernel = reserve(0, ARENA_BYTES / 64 / 8);
        if (!d->lines.init || !d->lines.line || !d->lines.reader || !d->lines.writer || !d->by_kernel)
            return false;
    }
    d->touched[0] = reserve(0, ARENA_BYTES / 256);
    d->touched[1] = reserve(0, ARENA_BYTES / 256);
    return reserve(d->base, ARENA_BYTES) && d->valid && d->touched[0] && d->touched[1];
}

int emu_devices_open(void)
{
    const char *count = getenv("CUDDLE_VGPU_DEVICES"), *checks = getenv("CUDDLE_VGPU_CHECKS");
    if (device_count)
        return device_count;
    int want = count ? atoi(count) : 1;
    want = want < 1 ? 1 : want > DEVICES_MAX ? DEVICES_MAX : want;
    if (checks)
        emu_check_level = !strcmp(checks, "off") ? CHECKS_OFF : !strcmp(checks, "all") ? CHECKS_ALL : CHECKS_CHEAP;
    for (int i = 0; i < want; i++)
        if (!device_open(&devices[i], i))
            return 0;
    return device_count = want;
}

emu_device *emu_device_get(int index) { return index >= 0 && index < device_count ? &devices[index] : NULL; }

emu_device *emu_device_of(uint64_t address)
{
    uint64_t index = (address - ARENA_BASE) / ARENA_STEP;
    if (address < ARENA_BASE || index >= (uint64_t)device_count || address - devices[index].base >= ARENA_BYTES)
        return NULL;
    return &devices[index];
}

static void valid_set(emu_device *d, uint64_t at, uint64_t bytes, bool live)
{
    for (uint64_t g = 0; g * GRANULE < bytes; g++) {
        uint64_t rest = bytes - g * GRANULE;
        d->valid[(at - d->base) / GRANULE + g] = live ? (uint16_t)(rest < GRANULE ? rest : GRANULE) : 0;
    }
}

/* A dead block of at least the size, or NULL. */
static struct emu_block *block_reuse(emu_device *d, uint64_t room)
{
    for (size_t i = 0; i < d->block_count; i++) {
        uint64_t end = i + 1 < d->block_count ? d->block[i + 1].at : d->top;
        if (!d->block[i].live && end - d->block[i].at >= room && end - d->block[i].at <= 2 * room)
            return &d->block[i];
    }
    return NULL;
}

/* Aligned to 256 bytes, a red zone of at least 256 behind it; filled with NaN. 0: no room. */
uint64_t emu_alloc(emu_device *d, size_t bytes)
{
    uint64_t room = (bytes + 2 * GRANULE - 1) / GRANULE * GRANULE;
    if (!bytes || bytes > d->limit - d->used)
        return 0;
    struct emu_block *b = d->top + room > d->base + d->bytes ? block_reuse(d, room) : NULL;
    if (!b) {
        if (d->top + room > d->base + d->bytes)
            return 0;
        if (d->block_count == d->block_capacity) {
            size_t capacity = d->block_capacity ? 2 * d->block_capacity : 64;
            struct emu_block *grown = realloc(d->block, capacity * sizeof *grown);
            if (!grown)
                return 0;
            d->block = grown;
            d->block_capacity = capacity;
        }
        b = &d->block[d->block_count++];
        b->at = d->top;
        d->top += room;
    }
    b->bytes = bytes;
    b->live = true;
    d->used += bytes;
    valid_set(d, b->at, bytes, true);
    if (emu_check_level != CHECKS_OFF && bytes <= 1u << 20)
        memset((void *)b->at, 0xff, bytes);
    return b->at;
}

static struct emu_block *block_at(emu_device *d, uint64_t address)
{
    size_t low = 0, high = d->block_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (d->block[mid].at <= address)
            low = mid + 1;
        else
            high = mid;
    }
    return low ? &d->block[low - 1] : NULL;
}

bool emu_free(emu_device *d, uint64_t address)
{
    struct emu_block *b = block_at(d, address);
    if (!b || b->at != address || !b->live)
        return false;
    b->live = false;
    d->used -= b->bytes;
    valid_set(d, b->at, b->bytes, false);
    if (d->lines.init)
        memset((uint8_t *)d->lines.init + (b->at - d->base) / 8, 0, (b->bytes + 7) / 8);
    madvise((void *)b->at, b->bytes & ~4095ull, MADV_DONTNEED);
    return true;
}

bool emu_block_find(uint64_t address, uint64_t *base, size_t *bytes)
{
    emu_device *d = emu_device_of(address);
    struct emu_block *b = d ? block_at(d, address) : NULL;
    if (!b || !b->live || address - b->at >= b->bytes)
        return false;
    *base = b->at;
    *bytes = b->bytes;
    return true;
}

bool emu_range_allocated(uint64_t address, size_t bytes)
{
    uint64_t base;
    size_t n;
    return emu_block_find(address, &base, &n) && bytes <= n - (address - base);
}

void emu_forget_kernels(void)
{
    for (int i = 0; i < device_count; i++)
        if (devices[i].by_kernel)
            madvise(devices[i].by_kernel, ARENA_BYTES / 64 / 8, MADV_DONTNEED);
}

void emu_mark_written(uint64_t address, size_t bytes)
{
    emu_device *d = emu_device_of(address);
    if (emu_check_level != CHECKS_ALL || !d)
        return;
    uint8_t *init = (uint8_t *)d->lines.init;
    uint64_t from = address - d->base, to = from + bytes;
    for (uint64_t line = (from + 63) / 64; 64 * (line + 1) <= to; line++)
        d->by_kernel[line / 64] &= ~(1ull << (line & 63));
    for (; from < to && from & 7; from++)
        init[from / 8] |= (uint8_t)(1 << (from & 7));
    if (to - from >= 8) {
        memset(init + from / 8, 0xff, (to - from) / 8);
        from += (to - from) & ~7ull;
    }
    for (; from < to; from++)
        init[from / 8] |= (uint8_t)(1 << (from & 7));
}

bool emu_is_written(uint64_t address, size_t bytes)
{
    const emu_device *d = emu_device_of(address);
    if (!d || !d->lines.init)
        return true;
    for (uint64_t at = address - d->base, to = at + bytes; at < to; at++)
        if (!(d->lines.init[at / 64] >> (at & 63) & 1))
            return false;
    return true;
}
