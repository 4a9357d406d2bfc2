#include "device/cubin.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>

/* Attributes of section .nv.info with two words: a symbol's index and its value. */
enum { FORMAT_WORDS = 4, FRAME_BYTES = 0x11, REGISTERS = 0x2f };

typedef struct {
    const uint8_t *data;
    size_t n;
    Elf64_Ehdr head;
} image;

static bool inside(const image *i, uint64_t at, uint64_t n)
{
    return at <= i->n && n <= i->n - at;
}

static bool section(const image *i, uint32_t which, Elf64_Shdr *out)
{
    uint64_t at = i->head.e_shoff + (uint64_t)which * sizeof *out;
    if (which >= i->head.e_shnum || !inside(i, at, sizeof *out))
        return false;
    memcpy(out, i->data + at, sizeof *out);
    return out->sh_type == SHT_NOBITS || inside(i, out->sh_offset, out->sh_size);
}

/* The text at `at` of a section of strings is s. */
static bool is_text(const image *i, uint32_t strings, uint32_t at, const char *s)
{
    Elf64_Shdr t;
    size_t n = strlen(s) + 1;
    return section(i, strings, &t) && t.sh_type == SHT_STRTAB && at <= t.sh_size && n <= t.sh_size - at
        && !memcmp(i->data + t.sh_offset + at, s, n);
}

static bool find_section(const image *i, const char *name, Elf64_Shdr *out)
{
    for (uint32_t s = 0; s < i->head.e_shnum; s++)
        if (section(i, s, out) && is_text(i, i->head.e_shstrndx, out->sh_name, name))
            return true;
    return false;
}

static bool find_symbol(const image *i, const char *name, uint32_t *out)
{
    Elf64_Shdr table;
    if (!find_section(i, ".symtab", &table))
        return false;
    for (uint64_t k = 0; (k + 1) * sizeof(Elf64_Sym) <= table.sh_size; k++) {
        Elf64_Sym s;
        memcpy(&s, i->data + table.sh_offset + k * sizeof s, sizeof s);
        *out = (uint32_t)k;
        if (ELF64_ST_TYPE(s.st_info) == STT_FUNC && is_text(i, table.sh_link, s.st_name, name))
            return true;
    }
    return false;
}

static cuddle_status damaged(const char *kernel)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "the code of %s is no cubin, or is damaged", kernel);
}

static cuddle_status read_info(cdl_cubin_kernel *out, const image *i, uint32_t symbol, const char *kernel)
{
    Elf64_Shdr info;
    if (!find_section(i, ".nv.info", &info))
        return damaged(kernel);
    const uint8_t *p = i->data + info.sh_offset, *end = p + info.sh_size;
    while (end - p >= 4) {
        uint16_t bytes;
        uint32_t words[2];
        memcpy(&bytes, p + 2, 2);
        uint8_t format = p[0], attribute = p[1];
        bytes = format == FORMAT_WORDS ? bytes : 0;
        if (bytes > end - p - 4)
            return damaged(kernel);
        if (bytes == sizeof words) {
            memcpy(words, p + 4, sizeof words);
            if (words[0] == symbol && attribute == REGISTERS)
                out->registers = words[1];
            if (words[0] == symbol && attribute == FRAME_BYTES)
                out->local_bytes = words[1];
        }
        p += 4 + bytes;
    }
    return CUDDLE_OK;
}

cuddle_status cdl_cubin_read(cdl_cubin_kernel *out, const uint8_t *data, size_t n, const char *kernel)
{
    image i = { .data = data, .n = n };
    Elf64_Shdr shared;
    uint32_t symbol;
    char name[160];
    *out = (cdl_cubin_kernel){ 0 };
    if (n < sizeof i.head || memcmp(data, ELFMAG, SELFMAG))
        return damaged(kernel);
    memcpy(&i.head, data, sizeof i.head);
    if (!find_symbol(&i, kernel, &symbol))
        return cdl_status_fail(CUDDLE_ERR_NOTFOUND, "the cubin has no kernel %s", kernel);
    snprintf(name, sizeof name, ".nv.shared.%.120s", kernel);
    if (find_section(&i, name, &shared))
        out->shared_bytes = (uint32_t)shared.sh_size;
    CDL_TRY(read_info(out, &i, symbol, kernel));
    return out->registers ? CUDDLE_OK : damaged(kernel);
}

/* CUDA C++ Programming Guide, table of technical specifications; registers are given out by warps in units of 256,
 * shared memory in units of 128, of which each block costs the system 1 KiB. */
uint32_t cdl_cubin_blocks_sm80(const cdl_cubin_kernel *k, uint32_t threads, uint32_t dynamic_shared_bytes)
{
    enum { REGISTERS_ALL = 65536, WARPS = 64, BLOCKS = 32, SHARED = 164 << 10, SHARED_SYSTEM = 1024 };
    uint32_t warps = (threads + 31) / 32, registers = (k->registers * 32 + 255) / 256 * 256;
    if (!warps || !registers)
        return 0;
    uint32_t shared = (k->shared_bytes + dynamic_shared_bytes + SHARED_SYSTEM + 127) / 128 * 128;
    uint32_t by_registers = REGISTERS_ALL / registers / 4 * 4 / warps;
    uint32_t by_warps = WARPS / warps, by_shared = SHARED / shared;
    uint32_t least = by_registers < by_warps ? by_registers : by_warps;
    least = least < by_shared ? least : by_shared;
    return least < BLOCKS ? least : BLOCKS;
}
