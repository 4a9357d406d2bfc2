/* ptx.c - a module's text: declarations, scopes, labels; instructions go to decode.c. */
#include "decode.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { PARAM_BYTES_MAX = 32764, STATEMENT_MAX = 1 << 16 };

void emu_fail(emu_decoder *d, const char *format, ...)
{
    if (d->failed)
        return;
    d->failed = true;
    int at = snprintf(d->err, d->err_size, "PTX line %u: ", d->line);
    va_list args;
    va_start(args, format);
    if (at > 0 && (size_t)at < d->err_size)
        vsnprintf(d->err + at, d->err_size - (size_t)at, format, args);
    va_end(args);
}

/* Room for one more; NULL when memory ends, which ends the process' use of this decoder. */
void *emu_grow(void *array, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    *capacity = *capacity ? *capacity * 2 : 64;
    return realloc(array, *capacity * size);
}

int emu_type_bits(const char *type)
{
    if (!strcmp(type, "pred"))
        return 1;
    while (*type && !isdigit((unsigned char)*type))
        type++;
    int bits = atoi(type);
    return strstr(type, "x2") ? 2 * bits : bits;
}

char *emu_trim(char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    char *end = s + strlen(s);
    while (end > s && isspace((unsigned char)end[-1]))
        *--end = 0;
    return s;
}

/* Splits at commas outside brackets. */
int emu_split(char *s, char **out, int max)
{
    int n = 0, depth = 0;
    s = emu_trim(s);
    if (!*s)
        return 0;
    out[n++] = s;
    for (; *s; s++) {
        depth += *s == '{' || *s == '[';
        depth -= *s == '}' || *s == ']';
        if (*s == ',' && !depth && n < max) {
            *s = 0;
            out[n++] = s + 1;
        }
    }
    for (int i = 0; i < n; i++)
        out[i] = emu_trim(out[i]);
    return n;
}

uint32_t emu_vreg_new(emu_decoder *d, enum emu_class cls, uint32_t count)
{
    uint32_t first = d->vregs;
    for (uint32_t i = 0; i < count; i++) {
        d->vreg = emu_grow(d->vreg, d->vregs, &d->vreg_cap, sizeof *d->vreg);
        d->vreg[d->vregs++] = (emu_vreg){.cls = (uint8_t)cls};
    }
    return first;
}

emu_symbol *emu_symbol_add(emu_decoder *d, const char *name, enum emu_symbol_kind kind)
{
    d->symbol = emu_grow(d->symbol, d->symbols, &d->symbol_cap, sizeof *d->symbol);
    emu_symbol *s = &d->symbol[d->symbols++];
    *s = (emu_symbol){.name = strdup(name), .kind = kind, .scope = d->scope, .count = 1};
    return s;
}

/* The innermost declaration of the name. */
emu_symbol *emu_symbol_find(emu_decoder *d, const char *name)
{
    for (uint32_t i = d->symbols; i-- > 0;) {
        emu_symbol *s = &d->symbol[i];
        size_t n = strlen(s->name);
        if (strncmp(s->name, name, n))
            continue;
        if (!s->range && !name[n])
            return s;
        if (s->range && isdigit((unsigned char)name[n]) && strtoul(name + n, NULL, 10) < s->count)
            return s;
    }
    return NULL;
}

static void symbols_drop(emu_decoder *d, int scope)
{
    while (d->symbols && d->symbol[d->symbols - 1].scope >= scope)
        free(d->symbol[--d->symbols].name);
}

/* `.reg .b32 %r<9>` or `.reg .f16 low, high` */
static void declare_registers(emu_decoder *d, char *s)
{
    s = emu_trim(s + 4);
    char *name = s + strcspn(s, " \t\n");
    if (*s != '.' || !*name) {
        emu_fail(d, "a register declaration without a type: '%s'", s);
        return;
    }
    *name++ = 0;
    int bits = emu_type_bits(s + 1);
    if (bits > 64) {
        emu_fail(d, "registers of type '%s' are not supported", s);
        return;
    }
    enum emu_class cls = bits == 1 ? CLASS_PRED : bits == 64 ? CLASS_64 : CLASS_32;
    char *names[64];
    int n = emu_split(name, names, 64);
    for (int i = 0; i < n; i++) {
        char *range = strchr(names[i], '<');
        uint32_t count = range ? (uint32_t)strtoul(range + 1, NULL, 10) : 1;
        if (range)
            *range = 0;
        if (count > 1 << 20) {
            emu_fail(d, "%u registers of one name", count);
            return;
        }
        uint32_t first = emu_vreg_new(d, cls, count);
        emu_symbol *sym = emu_symbol_add(d, names[i], SYM_REG);
        sym->cls = (uint8_t)cls;
        sym->bits = (uint8_t)bits;
        sym->range = range != NULL;
        sym->first = first;
        sym->count = count;
    }
}

typedef struct {
    char name[1024];
    uint32_t align, element;
    uint64_t bytes;
    char *init;
    bool is_shared, is_local, is_external, is_float;
} variable;

static uint64_t variable_elements(char *name)
{
    uint64_t n = 1;
    for (char *bracket = strchr(name, '['); bracket; bracket = strchr(bracket + 1, '['))
        n *= strtoull(bracket + 1, NULL, 10);
    name[strcspn(name, "[ \t\n")] = 0;
    return n;
}

/* `.visible .global .align 4 .b8 name[128] = {...}` in any of its forms */
static bool variable_parse(emu_decoder *d, char *s, variable *v)
{
    *v = (variable){.align = 1, .element = 1};
    char *equals = strchr(s, '=');
    if (equals) {
        *equals = 0;
        v->init = emu_trim(equals + 1);
    }
    s = emu_trim(s);
    while (*s == '.') {
        size_t n = strcspn(s, " \t\n");
        char word[64];
        snprintf(word, sizeof word, "%.*s", (int)n, s + 1);
        word[n ? n - 1 : 0] = 0;
        s = emu_trim(s + n);
        if (!strcmp(word, "align")) {
            v->align = (uint32_t)strtoul(s, &s, 10);
            s = emu_trim(s);
        } else if (!strcmp(word, "shared") || !strcmp(word, "local")) {
            *(word[0] == 's' ? &v->is_shared : &v->is_local) = true;
        } else if (!strcmp(word, "extern")) {
            v->is_external = true;
        } else if (strlen(word) <= 4 && isdigit((unsigned char)word[strlen(word) - 1])) {
            v->element = (uint32_t)emu_type_bits(word) / 8;
            v->is_float = word[0] == 'f';
        }
    }
    snprintf(v->name, sizeof v->name, "%s", s);
    v->bytes = variable_elements(v->name) * v->element;
    if (v->align < v->element)
        v->align = v->element;
    if (v->bytes > 1u << 30 || v->align > 4096 || !v->align)
        emu_fail(d, "variable '%.200s' of %llu bytes, aligned to %u", v->name, (unsigned long long)v->bytes, v->align);
    return !d->failed;
}

static uint32_t align_up(uint32_t n, uint32_t to) { return (n + to - 1) / to * to; }

static void declare_local(emu_decoder *d, char *s)
{
    variable v;
    if (!variable_parse(d, s, &v))
        return;
    if (!v.is_shared && !v.is_local) {
        emu_fail(d, "a declaration that is not supported: '%.100s'", s);
        return;
    }
    uint32_t *end = v.is_shared ? &d->kernel->shared_bytes : &d->kernel->local_bytes;
    *end = align_up(*end, v.align);
    emu_symbol_add(d, v.name, v.is_shared ? SYM_SHARED : SYM_LOCAL)->value = *end;
    *end += (uint32_t)v.bytes;
}

static void global_fill(emu_decoder *d, const variable *v, uint8_t *to)
{
    uint64_t at = 0;
    for (const char *s = v->init + strcspn(v->init, "-0123456789"); *s && at + v->element <= v->bytes;) {
        char *end;
        uint64_t x;
        if (s[0] == '0' && (s[1] == 'f' || s[1] == 'F' || s[1] == 'd' || s[1] == 'D'))
            x = strtoull(s + 2, &end, 16);
        else
            x = *s == '-' ? (uint64_t)strtoll(s, &end, 0) : strtoull(s, &end, 0);
        if (end == s)
            break;
        memcpy(to + at, &x, v->element);
        at += v->element;
        while (*end && (isspace((unsigned char)*end) || strchr("U,{}", *end)))
            end++;
        if (*end && !isdigit((unsigned char)*end) && *end != '-')
            emu_fail(d, "the value '%.40s' of '%.100s' is not supported", end, v->name);
        s = end;
    }
}

/* A variable of the module: shared ones are placed in each kernel, the others live in device memory. */
static void declare_global(emu_decoder *d, char *s)
{
    variable v;
    emu_module *m = d->module;
    if (!variable_parse(d, s, &v))
        return;
    if (v.is_shared) {
        m->shared = realloc(m->shared, (m->shared_count + 1) * sizeof *m->shared);
        m->shared[m->shared_count++] = (struct emu_static){strdup(v.name), v.align, v.is_external ? 0 : v.bytes};
        return;
    }
    uint64_t address = emu_alloc(m->device, v.bytes ? v.bytes : 1);
    if (!address) {
        emu_fail(d, "no device memory for '%.200s', %llu bytes", v.name, (unsigned long long)v.bytes);
        return;
    }
    memset((void *)address, 0, v.bytes);
    emu_mark_written(address, v.bytes);
    if (v.init)
        global_fill(d, &v, (uint8_t *)address);
    m->global = realloc(m->global, (m->global_count + 1) * sizeof *m->global);
    m->global[m->global_count++] = (struct emu_global){strdup(v.name), address, v.bytes};
}

/* One parameter: `.param .align 8 .b8 name[64]`, `.param .u64 .ptr .global .align 16 name` */
static void declare_param(emu_decoder *d, char *s)
{
    emu_kernel *k = d->kernel;
    char *space = s + strlen(s);
    while (space > s && !isspace((unsigned char)space[-1]))
        space--;
    char *bracket = strchr(space, '[');
    uint32_t size = 0, align = 0;
    for (char *word = strtok(s, " \t\n"); word && word < space; word = strtok(NULL, " \t\n")) {
        if (!strcmp(word, ".align") && !align)
            align = (uint32_t)strtoul(strtok(NULL, " \t\n"), NULL, 10);
        else if (!size && word[0] == '.' && isdigit((unsigned char)word[strlen(word) - 1]))
            size = (uint32_t)emu_type_bits(word + 1) / 8;
        else if (!strcmp(word, ".ptr"))
            break;
    }
    if (bracket)
        size *= (uint32_t)variable_elements(space);
    else
        align = size;
    align = align ? align : 1;
    uint32_t offset = align_up(k->param_bytes, align);
    if (!size || offset + size > PARAM_BYTES_MAX) {
        emu_fail(d, "parameter '%s' of %u bytes", space, size);
        return;
    }
    emu_symbol_add(d, space, SYM_PARAM)->value = offset;
    k->param = realloc(k->param, (k->param_count + 1) * sizeof *k->param);
    k->param[k->param_count++] = (struct emu_param){offset, size};
    k->param_bytes = offset + size;
}

static void module_symbols(emu_decoder *d)
{
    emu_module *m = d->module;
    for (uint32_t i = 0; i < m->global_count; i++)
        emu_symbol_add(d, m->global[i].name, SYM_GLOBAL)->value = m->global[i].address;
    for (uint32_t i = 0; i < m->shared_count; i++) {
        emu_kernel *k = d->kernel;
        if (!m->shared[i].bytes)
            continue;
        k->shared_bytes = align_up(k->shared_bytes, m->shared[i].align);
        emu_symbol_add(d, m->shared[i].name, SYM_SHARED)->value = k->shared_bytes;
        k->shared_bytes += (uint32_t)m->shared[i].bytes;
    }
    /* extern ones start behind all static ones: their value is known when the body ends */
    for (uint32_t i = 0; i < m->shared_count; i++)
        if (!m->shared[i].bytes)
            emu_symbol_add(d, m->shared[i].name, SYM_SHARED)->value = UINT64_MAX;
}

/* The dynamic part must be placed before instructions name it: adds up the body's own .shared first. */
static void place_dynamic(emu_decoder *d, const char *body, const char *end)
{
    uint32_t bytes = d->kernel->shared_bytes;
    for (const char *s = strstr(body, ".shared .align"); s && s < end; s = strstr(s + 1, ".shared .align")) {
        char text[2048];
        variable v;
        snprintf(text, sizeof text, "%.*s", (int)strcspn(s, ";"), s);
        if (s[-1] == '.' || isalnum((unsigned char)s[-1]) || !variable_parse(d, text, &v))
            continue;
        bytes = align_up(bytes, v.align) + (uint32_t)v.bytes;
    }
    for (uint32_t i = 0; i < d->symbols; i++)
        if (d->symbol[i].kind == SYM_SHARED && d->symbol[i].value == UINT64_MAX)
            d->symbol[i].value = align_up(bytes, 16);
}

static void count_lines(emu_decoder *d, const char *from, const char *to)
{
    for (; from < to; from++)
        d->line += *from == '\n';
}

static char *skip_space(emu_decoder *d, char *s)
{
    for (; isspace((unsigned char)*s); s++)
        d->line += *s == '\n';
    return s;
}

static char *label_end(char *s)
{
    if (!isalpha((unsigned char)*s) && *s != '$' && *s != '_' && *s != '%')
        return NULL;
    while (isalnum((unsigned char)*s) || *s == '$' || *s == '_')
        s++;
    return *s == ':' && s[1] != ':' ? s : NULL;
}

static void label_add(emu_decoder *d, const char *s, const char *end)
{
    d->label = emu_grow(d->label, d->labels, &d->label_cap, sizeof *d->label);
    d->label[d->labels++] = (emu_label){strndup(s, (size_t)(end - s)), d->kernel->count};
    emu_emit(d, OP_JOIN, "label");
}

static char *statement(emu_decoder *d, char *s)
{
    char *end = strchr(s, ';');
    if (!end || end - s > STATEMENT_MAX) {
        emu_fail(d, "a statement without an end");
        return s;
    }
    uint32_t line = d->line;
    char *text = strndup(s, (size_t)(end - s));
    if (!strncmp(s, ".reg", 4))
        declare_registers(d, text);
    else if (!strncmp(s, ".pragma", 7))
        ;
    else if (*s == '.')
        declare_local(d, text);
    else
        emu_decode_statement(d, text);
    free(text);
    d->line = line;
    count_lines(d, s, end);
    return end + 1;
}

/* The body, from behind its opening brace to behind its closing one. */
static char *body(emu_decoder *d, char *s)
{
    int depth = 1;
    while (!d->failed) {
        s = skip_space(d, s);
        char *end = label_end(s);
        if (!*s) {
            emu_fail(d, "the text ends inside a body");
        } else if (*s == '{') {
            depth++, d->scope++, s++;
        } else if (*s == '}') {
            s++;
            if (!--depth)
                return s;
            symbols_drop(d, d->scope--);
        } else if ((!strncmp(s, ".loc", 4) && isspace((unsigned char)s[4])) || !strncmp(s, ".file", 5)) {
            s += strcspn(s, "\n");
        } else if (end) {
            label_add(d, s, end);
            s = end + 1;
        } else if (*s == ';') {
            s++;
        } else {
            s = statement(d, s);
        }
    }
    return s;
}

static int label_compare(const void *a, const void *b)
{
    return strcmp(((const emu_label *)a)->name, ((const emu_label *)b)->name);
}

static void labels_resolve(emu_decoder *d)
{
    if (d->labels)
        qsort(d->label, d->labels, sizeof *d->label, label_compare);
    for (uint32_t i = 0; i < d->fixups && !d->failed; i++) {
        emu_label *l = d->labels ? bsearch(&d->fixup[i], d->label, d->labels, sizeof *l, label_compare) : NULL;
        if (l)
            d->kernel->code[d->fixup[i].at].target = l->at;
        else
            emu_fail(d, "no label '%s'", d->fixup[i].name);
    }
}

static void decoder_reset(emu_decoder *d)
{
    symbols_drop(d, 0);
    for (uint32_t i = 0; i < d->labels; i++)
        free(d->label[i].name);
    for (uint32_t i = 0; i < d->fixups; i++)
        free(d->fixup[i].name);
    free(d->constant_vreg);
    d->constant_vreg = NULL;
    d->refs = d->vregs = d->labels = d->fixups = 0;
    d->scope = 0;
}

static char *entry_params(emu_decoder *d, char *s)
{
    char *end = s + strcspn(s, ")");
    char *text = strndup(s, (size_t)(end - s)), *part[256];
    int n = emu_split(text, part, 256);
    for (int i = 0; i < n && !d->failed; i++)
        declare_param(d, part[i]);
    free(text);
    count_lines(d, s, end);
    return *end ? end + 1 : end;
}

static char *matching_brace(char *s)
{
    int depth = 0;
    for (; *s; s++) {
        depth += *s == '{';
        depth -= *s == '}';
        if (!depth)
            break;
    }
    return s;
}

/* `.entry name(params) .maxntid 128, 1, 1 { body }` */
static char *entry(emu_decoder *d, char *s)
{
    emu_module *m = d->module;
    emu_kernel *k = calloc(1, sizeof *k);
    s = emu_trim(s);
    size_t n = strcspn(s, "( \t\n");
    m->kernel = realloc(m->kernel, (m->kernel_count + 1) * sizeof(emu_kernel *));
    m->kernel[m->kernel_count++] = d->kernel = k;
    k->name = strndup(s, n);
    k->module = m;
    k->dynamic_shared_max = -1;
    k->threads_max = 1024;
    module_symbols(d);
    d->scope = 1;
    char *at = s + n + strspn(s + n, " \t\n");
    if (*at == '(')
        at = entry_params(d, at + 1);
    char *open = at + strcspn(at, "{");
    for (char *t = strstr(at, ".maxntid"); t && t < open; t = NULL) {
        unsigned x = 1, y = 1, z = 1;
        if (sscanf(t + 8, "%u , %u , %u", &x, &y, &z) > 0)
            k->threads_max = x * y * z;
    }
    count_lines(d, at, open);
    if (!*open) {
        emu_fail(d, "entry '%s' has no body", k->name);
        return open;
    }
    emu_decode_begin(d);
    place_dynamic(d, open, matching_brace(open));
    at = body(d, open + 1);
    emu_emit(d, OP_RET, "ret");
    k->shared_bytes = align_up(k->shared_bytes, 16);
    labels_resolve(d);
    if (!d->failed && !emu_slots(d))
        emu_fail(d, "out of memory");
    decoder_reset(d);
    return at;
}

static void blank_comments(char *s)
{
    for (; *s; s++) {
        if (s[0] == '/' && s[1] == '/') {
            while (*s && *s != '\n')
                *s++ = ' ';
            s -= !*s;
        } else if (s[0] == '/' && s[1] == '*') {
            while (*s && !(s[0] == '*' && s[1] == '/')) {
                *s = *s == '\n' ? '\n' : ' ';
                s++;
            }
            if (*s)
                s[0] = s[1] = ' ';
            else
                s--;
        }
    }
}

static char *module_variable(emu_decoder *d, char *s)
{
    char *end = s + strcspn(s, ";");
    char *text = strndup(s, (size_t)(end - s));
    declare_global(d, text);
    free(text);
    count_lines(d, s, end);
    return *end ? end + 1 : end;
}

/* One item of the module: a line directive, a variable, a declaration or an entry. */
static char *module_item(emu_decoder *d, char *s)
{
    size_t head = strcspn(s, "(;{=\n");
    char word[4096];
    snprintf(word, sizeof word, "%.*s", (int)(head < sizeof word ? head : sizeof word - 1), s);
    if (strstr(word, ".entry")) {
        char *name = strstr(s, ".entry") + 6;
        count_lines(d, s, name);
        return entry(d, skip_space(d, name));
    }
    if (strstr(word, ".func")) {
        char *end = s + strcspn(s, "{;");
        count_lines(d, s, end);
        if (*end == '{') {
            char *close = matching_brace(end);
            count_lines(d, end, close);
            return *close ? close + 1 : close;
        }
        return *end ? end + 1 : end;
    }
    if (strstr(word, ".global ") || strstr(word, ".const ") || strstr(word, ".shared "))
        return module_variable(d, s);
    if (!strncmp(s, ".version", 8) || !strncmp(s, ".target", 7) || !strncmp(s, ".address_size", 13)
        || !strncmp(s, ".file", 5))
        return s + strcspn(s, "\n");
    emu_fail(d, "'%.60s' is not supported", word);
    return s;
}

static void module_parse(emu_decoder *d, char *s)
{
    while (!d->failed) {
        s = skip_space(d, s);
        if (!*s)
            return;
        if (*s == ';') {
            s++;
            continue;
        }
        s = module_item(d, s);
    }
}

emu_module *emu_module_new(emu_device *dev, const char *text, char *err, size_t err_size)
{
    emu_decoder d = {.line = 1, .err = err, .err_size = err_size};
    emu_module *m = d.module = calloc(1, sizeof *m);
    if (!m || !(m->text = strdup(text))) {
        free(m);
        snprintf(err, err_size, "out of memory");
        return NULL;
    }
    m->device = dev;
    blank_comments(m->text);
    if (!strstr(m->text, ".version"))
        emu_fail(&d, "this is no PTX text (the virtual GPU runs PTX, not cubins)");
    module_parse(&d, m->text);
    decoder_reset(&d);
    free(d.symbol);
    free(d.ref);
    free(d.vreg);
    free(d.label);
    free(d.fixup);
    if (d.failed) {
        emu_module_free(m);
        return NULL;
    }
    return m;
}

static void kernel_free(emu_kernel *k)
{
    for (uint32_t i = 0; i < k->count; i++)
        free((char *)k->opcode[i]);
    free(k->opcode);
    free(k->name);
    free(k->code);
    free(k->mma);
    free(k->wgmma);
    free(k->constant);
    free(k->param);
    free(k);
}

void emu_module_free(emu_module *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; i < m->kernel_count; i++)
        kernel_free(m->kernel[i]);
    for (uint32_t i = 0; i < m->global_count; i++) {
        emu_free(m->device, m->global[i].address);
        free(m->global[i].name);
    }
    for (uint32_t i = 0; i < m->shared_count; i++)
        free(m->shared[i].name);
    free(m->kernel);
    free(m->global);
    free(m->shared);
    free(m->text);
    free(m);
}

emu_kernel *emu_module_kernel(emu_module *m, const char *name)
{
    for (uint32_t i = 0; i < m->kernel_count; i++)
        if (!strcmp(m->kernel[i]->name, name))
            return m->kernel[i];
    return NULL;
}

bool emu_module_global(emu_module *m, const char *name, uint64_t *address, size_t *bytes)
{
    for (uint32_t i = 0; i < m->global_count; i++) {
        if (!strcmp(m->global[i].name, name)) {
            *address = m->global[i].address;
            *bytes = m->global[i].bytes;
            return true;
        }
    }
    return false;
}
