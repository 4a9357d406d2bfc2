/* counters.c - what a launch did, exactly: a JSON line each into the file that CUDDLE_VGPU_COUNTERS names.
 *
 * An operand is a pointer found in the parameters (8-byte slots that hold an address of a live allocation);
 * an access belongs to the operand with the greatest pointer that is not above its address.
 */
#include "emu.h"

#include <stdlib.h>
#include <string.h>

enum { SECTOR = 32, BANKS = 32 };

bool emu_counters_wanted(void) { return getenv("CUDDLE_VGPU_COUNTERS") != NULL; }

static int by_pointer(const void *a, const void *b)
{
    uint64_t x = ((const emu_operand *)a)->pointer, y = ((const emu_operand *)b)->pointer;
    return x < y ? -1 : x > y;
}

void emu_counters_begin(emu_launch *l)
{
    emu_counters *c = l->counters = calloc(1, sizeof *c);
    uint64_t base;
    size_t bytes;
    if (!c)
        return;
    for (uint32_t at = 0; at + 8 <= l->kernel->param_bytes && c->operand_count < 64; at += 8) {
        uint64_t pointer;
        memcpy(&pointer, l->params + at, 8);
        if (emu_block_find(pointer, &base, &bytes))
            c->operand[c->operand_count++] = (emu_operand){.pointer = pointer, .offset = at};
    }
    qsort(c->operand, c->operand_count, sizeof *c->operand, by_pointer);
    uint64_t used = (l->device->top - l->device->base) / 256 + 8;
    memset(l->device->touched[0], 0, used);
    memset(l->device->touched[1], 0, used);
}

static emu_operand *operand_of(emu_counters *c, uint64_t address)
{
    emu_operand *found = NULL;
    for (uint32_t o = 0; o < c->operand_count && c->operand[o].pointer <= address; o++)
        found = &c->operand[o];
    return found;
}

static bool sector_touch(emu_device *d, uint64_t n, bool write)
{
    uint64_t bit = 1ull << (n & 63);
    bool first = !(d->touched[write][n / 64] & bit);
    d->touched[write][n / 64] |= bit;
    return first;
}

/* Distinct sectors of a request, by lines of 64 bytes: bit 0 and 1 of each, and how many. */
static uint32_t sectors_of(const emu_piece *piece, uint32_t n, uint8_t *out)
{
    uint32_t count = 0;
    for (uint32_t p = 0; p < n; p++) {
        out[p] = (uint8_t)(((uint32_t)piece[p].bytes != 0) | ((piece[p].bytes >> SECTOR != 0) << 1));
        count += (out[p] & 1) + (out[p] >> 1);
    }
    return count;
}

/* Pieces of one line each: a line that comes twice is made one piece. */
static uint32_t pieces_merge(emu_piece *piece, uint32_t n)
{
    uint32_t kept = 0;
    for (uint32_t p = 0; p < n; p++) {
        uint32_t k = 0;
        while (k < kept && piece[k].line != piece[p].line)
            k++;
        if (k < kept)
            piece[k].bytes |= piece[p].bytes;
        else
            piece[kept++] = piece[p];
    }
    return kept;
}

void emu_count_global(emu_warp *w, const emu_request *q, uint32_t m, uint32_t bytes, bool write)
{
    emu_launch *l = w->cta->launch;
    uint64_t first = q->a[__builtin_ctz(m)];
    emu_operand *o = operand_of(l->counters, first);
    emu_piece piece[PIECES_MAX];
    uint8_t half[PIECES_MAX];
    if (!o || emu_device_of(first) != l->device)
        return;
    uint32_t n = pieces_merge(piece, emu_pieces(q, m, bytes, l->device->base, piece)), fresh = 0;
    uint32_t count = sectors_of(piece, n, half);
    for (uint32_t p = 0; p < n; p++)
        for (uint32_t h = 0; h < 2; h++)
            fresh += half[p] >> h & 1 && sector_touch(l->device, 2 * piece[p].line + h, write);
    o->requests++;
    o->bytes += (uint64_t)__builtin_popcount(m) * bytes;
    *(write ? &o->written_sectors : &o->sectors) += count;
    *(write ? &o->unique_written : &o->unique) += (uint64_t)fresh * SECTOR;
}

/* Wavefronts of one phase: the most distinct words that one bank must give. */
static uint32_t phase_wavefronts(const uint64_t *a, uint32_t m, uint32_t bytes)
{
    uint64_t word[BANKS][LANES];
    uint32_t count[BANKS] = {0}, most = 0;
    EACH_LANE(l, m) {
        for (uint64_t x = a[l] / 4; x <= (a[l] + bytes - 1) / 4; x++) {
            uint32_t bank = x & (BANKS - 1), k = 0;
            while (k < count[bank] && word[bank][k] != x)
                k++;
            if (k == count[bank])
                word[bank][count[bank]++] = x;
            most = count[bank] > most ? count[bank] : most;
        }
    }
    return most;
}

void emu_count_shared(emu_warp *w, const emu_request *q, uint32_t m, uint32_t bytes)
{
    emu_counters *c = w->cta->launch->counters;
    uint32_t lanes = bytes <= 4 ? 32 : bytes <= 8 ? 16 : 8;
    c->shared_requests++;
    for (uint32_t at = 0; at < LANES; at += lanes) {
        uint32_t part = m & (lanes == 32 ? FULL : ((1u << lanes) - 1) << at);
        if (!part)
            continue;
        c->shared_wavefronts += q->dense || q->uniform ? 1 : phase_wavefronts(q->a, part, bytes);
        c->shared_ideal++;
    }
}

static void write_operands(FILE *f, const emu_counters *c)
{
    for (uint32_t n = 0; n < c->operand_count; n++) {
        const emu_operand *o = &c->operand[n];
        fprintf(f, "%s{\"offset\":%u,\"requests\":%llu,\"bytes\":%llu,\"read_sectors\":%llu,\"unique_read\":%llu,"
                "\"written_sectors\":%llu,\"unique_written\":%llu}", n ? "," : "", o->offset,
                (unsigned long long)o->requests, (unsigned long long)o->bytes, (unsigned long long)o->sectors,
                (unsigned long long)o->unique, (unsigned long long)o->written_sectors,
                (unsigned long long)o->unique_written);
    }
}

static void write_mix(FILE *f, const emu_kernel *k, const uint64_t *hits)
{
    bool *done = calloc(k->count, sizeof *done);
    const char *comma = "";
    for (uint32_t n = 0; done && n < k->count; n++) {
        uint64_t sum = 0;
        if (done[n] || k->code[n].op == OP_JOIN)
            continue;
        for (uint32_t j = n; j < k->count; j++) {
            if (!strcmp(k->opcode[j], k->opcode[n])) {
                sum += hits[j];
                done[j] = true;
            }
        }
        if (sum) {
            fprintf(f, "%s\"%s\":%llu", comma, k->opcode[n], (unsigned long long)sum);
            comma = ",";
        }
    }
    free(done);
}

void emu_counters_end(emu_launch *l, const uint64_t *hits, const uint64_t *lane_hits)
{
    emu_counters *c = l->counters;
    uint64_t warp = 0, lane = 0;
    FILE *f = c ? fopen(getenv("CUDDLE_VGPU_COUNTERS"), "a") : NULL;
    for (uint32_t n = 0; n < l->kernel->count; n++) {
        if (l->kernel->code[n].op == OP_JOIN)
            continue;
        warp += hits[n];
        lane += lane_hits[n];
    }
    if (f) {
        fprintf(f, "{\"kernel\":\"%s\",\"launch\":%u,\"grid\":[%u,%u,%u],\"block\":[%u,%u,%u],"
                "\"dynamic_shared\":%u,"
                "\"warp_instructions\":%llu,"
                "\"lane_instructions\":%llu,\"mma\":%llu,\"branches\":%llu,\"divergent_branches\":%llu,"
                "\"shared_requests\":%llu,\"shared_wavefronts\":%llu,\"shared_ideal\":%llu,\"operands\":[",
                l->kernel->name, l->number, l->grid[0], l->grid[1], l->grid[2], l->block[0], l->block[1], l->block[2],
                l->dynamic_shared,
                (unsigned long long)warp, (unsigned long long)lane, (unsigned long long)c->mma,
                (unsigned long long)c->branches, (unsigned long long)c->divergent,
                (unsigned long long)c->shared_requests, (unsigned long long)c->shared_wavefronts,
                (unsigned long long)c->shared_ideal);
        write_operands(f, c);
        fprintf(f, "],\"opcodes\":{");
        write_mix(f, l->kernel, hits);
        fprintf(f, "}}\n");
        fclose(f);
    }
    free(c);
    l->counters = NULL;
}
