/* decode.h - what ptx.c (declarations), decode.c (instructions) and slots.c (registers) share. */
#ifndef EMU_DECODE_H
#define EMU_DECODE_H

#include "emu.h"

enum emu_symbol_kind { SYM_REG, SYM_SHARED, SYM_LOCAL, SYM_PARAM, SYM_GLOBAL };
typedef struct {
    char *name;
    enum emu_symbol_kind kind;
    uint8_t cls, bits;
    bool range;                 /* %r<9>: names %r0 .. %r8                      */
    uint32_t first, count;      /* virtual registers                            */
    uint64_t value;             /* offset or address                            */
    int scope;
} emu_symbol;

enum { FIELD_PRED = 1000, FIELD_MMA = 2000, FIELD_WGMMA = 3000 };   /* else an index of o[] */
typedef struct {
    uint32_t insn, vreg;
    uint16_t field;
    bool def;
} emu_ref;

typedef struct {
    uint8_t cls;
    bool pinned;
    uint32_t slot;
} emu_vreg;

typedef struct {
    char *name;
    uint32_t at;
} emu_label;

typedef struct emu_decoder {
    emu_module *module;
    emu_kernel *kernel;
    emu_symbol *symbol;
    emu_ref *ref;
    emu_vreg *vreg;
    emu_label *label, *fixup;
    uint32_t symbols, refs, vregs, labels, fixups;
    uint32_t symbol_cap, ref_cap, vreg_cap, label_cap, fixup_cap;
    uint32_t *constant_vreg, special_vreg[SPECIAL_COUNT], true_vreg;
    int scope;
    uint32_t line;
    bool failed;
    char *err;
    size_t err_size;
} emu_decoder;

struct emu_module {
    emu_device *device;
    emu_kernel **kernel;
    uint32_t kernel_count, global_count;
    struct emu_global { char *name; uint64_t address; size_t bytes; } *global;
    struct emu_static { char *name; uint32_t align; size_t bytes; } *shared;
    uint32_t shared_count;
    char *text;
};

void emu_fail(emu_decoder *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *emu_grow(void *array, uint32_t count, uint32_t *capacity, size_t size);
uint32_t emu_vreg_new(emu_decoder *d, enum emu_class cls, uint32_t count);
emu_symbol *emu_symbol_add(emu_decoder *d, const char *name, enum emu_symbol_kind kind);
emu_symbol *emu_symbol_find(emu_decoder *d, const char *name);
int emu_type_bits(const char *type);
char *emu_trim(char *s);
int emu_split(char *s, char **out, int max);

/* Decodes one statement (its text is cut up) and appends its instruction. */
void emu_decode_statement(emu_decoder *d, char *text);
emu_insn *emu_emit(emu_decoder *d, int op, const char *name);
void emu_decode_begin(emu_decoder *d);
bool emu_slots(emu_decoder *d);

#endif
