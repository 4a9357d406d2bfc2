/* cmd_info.c - `cuddle info`: what a model's files hold, or what this machine can run models on. */
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/pool.h"
#include "cli.h"
#include "cpu/cpu.h"
#include "cuddle_model.h"
#include "device/device.h"
#include "format/checkpoint.h"
#include "model/model.h"

static bool json, tensors, devices;

static const cli_option options[] = {
    { "tensors", 0, CLI_FLAG, &tensors, NULL, "list every tensor: name, type, shape, bytes, file", 0, 0 },
    { "json", 0, CLI_FLAG, &json, NULL, "print JSON", 0, 0 },
    { "devices", 0, CLI_FLAG, &devices, NULL, "list the devices of this machine instead", 0, 0 },
};

enum { VALUE_CHARS = 60 };

/* ---- Parts of the model ---- */

typedef struct {
    cuddle_model_facts f;
    const cdl_checkpoint *c;
    uint32_t files;
    struct {
        uint64_t tensors, bytes;
    } by_type[CDL_DTYPE_COUNT];
} facts;

static facts gather(const cuddle_model *m)
{
    facts k = { .f = { .size = sizeof k.f }, .c = cdl_model_checkpoint(m) };
    cuddle_model_describe(m, &k.f);
    for (size_t i = 0; i < cdl_checkpoint_count(k.c); i++) {
        const cdl_tensor_entry *t = cdl_checkpoint_at(k.c, i);
        k.by_type[t->dtype].tensors++;
        k.by_type[t->dtype].bytes += t->bytes;
        k.files = t->file + 1 > k.files ? t->file + 1 : k.files;
    }
    return k;
}

/* ---- Text ---- */

/* A name from a file must not move the cursor. */
static void print_clean(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        putchar((unsigned char)s[i] < 0x20 || s[i] == 0x7f ? ' ' : s[i]);
}

static void print_value(const cdl_json *v)
{
    switch (v->type) {
    case CDL_JSON_BOOL: fputs(v->as.b ? "true" : "false", stdout); break;
    case CDL_JSON_INT: printf("%lld", (long long)v->as.i); break;
    case CDL_JSON_DOUBLE: printf("%.9g", v->as.d); break;
    case CDL_JSON_STRING:
        print_clean(v->as.s, v->n < VALUE_CHARS ? v->n : VALUE_CHARS);
        fputs(v->n > VALUE_CHARS ? "..." : "", stdout);
        break;
    case CDL_JSON_ARRAY:
    case CDL_JSON_OBJECT: printf("%zu items", v->n); break;
    case CDL_JSON_NULL: fputs("null", stdout); break;
    }
}

static void print_metadata(const cdl_checkpoint *c)
{
    const cdl_json *meta = cdl_checkpoint_gguf(c), *shown = meta ? meta : cdl_checkpoint_config(c);
    printf("\n%s\n", meta ? "metadata" : "config.json");
    for (size_t i = 0; i < cdl_json_len(shown); i++) {
        const cdl_json *v = cdl_json_at(shown, i);
        cdl_gguf_array a;
        fputs("  ", stdout);
        print_clean(v->key, v->key_len);
        fputs("  ", stdout);
        if (meta && cdl_checkpoint_gguf_array(c, v->key, &a))
            printf("%llu items", (unsigned long long)a.n);
        else
            print_value(v);
        putchar('\n');
    }
}

static void print_tensors(const cdl_checkpoint *c)
{
    printf("\n%-52s %-7s %-24s %14s  file\n", "tensor", "type", "shape", "bytes");
    for (size_t i = 0; i < cdl_checkpoint_count(c); i++) {
        const cdl_tensor_entry *t = cdl_checkpoint_at(c, i);
        char dims[160] = "";
        size_t n = 0;
        for (uint32_t d = 0; d < t->ndim; d++)
            n += (size_t)snprintf(dims + n, sizeof dims - n, "%s%lld", d ? " x " : "", (long long)t->dim[d]);
        size_t len = strlen(t->name);
        print_clean(t->name, len);
        printf("%*s %-7s %-24s %14zu  %u\n", len < 52 ? (int)(52 - len) : 0, "", cdl_dtype_get(t->dtype)->name, dims,
                t->bytes,
                t->file);
    }
}

static void print_text(const facts *k)
{
    printf("architecture  %s\n", *k->f.architecture ? k->f.architecture : "(none named)");
    printf("parameters    %llu\n", (unsigned long long)k->f.parameters);
    printf("bytes         %llu of tensors\n", (unsigned long long)k->f.bytes);
    printf("sizes         vocab %u, hidden %u, layers %u, heads %u, kv heads %u, head dim %u\n", k->f.vocab,
            k->f.hidden,
            k->f.layers, k->f.heads, k->f.kv_heads, k->f.head_dim);
    printf("context       %u tokens\n", k->f.context_max);
    for (int t = 0; t < CDL_DTYPE_COUNT; t++)
        if (k->by_type[t].tensors)
            printf("type %-8s %llu tensors, %llu bytes\n", cdl_dtype_get((cdl_dtype)t)->name,
                    (unsigned long long)k->by_type[t].tensors, (unsigned long long)k->by_type[t].bytes);
    for (uint32_t i = 0; i < k->files; i++)
        printf("file %-8u %s\n", i, cdl_checkpoint_file(k->c, i));
    print_metadata(k->c);
    if (tensors)
        print_tensors(k->c);
}

/* ---- JSON ---- */

static cuddle_status put_text(cdl_buf *b, const char *key, const char *s)
{
    CDL_TRY(cdl_buf_printf(b, "\"%s\":", key));
    CDL_TRY(cdl_json_put_string(b, s, strlen(s)));
    return cdl_buf_putc(b, ',');
}

static cuddle_status put_json(cdl_buf *b, const cdl_json *v)
{
    switch (v->type) {
    case CDL_JSON_NULL: return cdl_buf_puts(b, "null");
    case CDL_JSON_BOOL: return cdl_buf_puts(b, v->as.b ? "true" : "false");
    case CDL_JSON_INT: return cdl_buf_printf(b, "%lld", (long long)v->as.i);
    case CDL_JSON_DOUBLE: return cdl_json_put_double(b, v->as.d);
    case CDL_JSON_STRING: return cdl_json_put_string(b, v->as.s, v->n);
    default: break;
    }
    bool object = v->type == CDL_JSON_OBJECT;
    CDL_TRY(cdl_buf_putc(b, object ? '{' : '['));
    for (size_t i = 0; i < v->n; i++) {
        const cdl_json *item = cdl_json_at(v, i);
        if (i)
            CDL_TRY(cdl_buf_putc(b, ','));
        if (object) {
            CDL_TRY(cdl_json_put_string(b, item->key, item->key_len));
            CDL_TRY(cdl_buf_putc(b, ':'));
        }
        CDL_TRY(put_json(b, item));
    }
    return cdl_buf_putc(b, object ? '}' : ']');
}

static cuddle_status put_tensors(cdl_buf *b, const cdl_checkpoint *c)
{
    CDL_TRY(cdl_buf_puts(b, ",\"tensors\":["));
    for (size_t i = 0; i < cdl_checkpoint_count(c); i++) {
        const cdl_tensor_entry *t = cdl_checkpoint_at(c, i);
        CDL_TRY(cdl_buf_puts(b, i ? ",{" : "{"));
        CDL_TRY(put_text(b, "name", t->name));
        CDL_TRY(cdl_buf_printf(b, "\"dtype\":\"%s\",\"shape\":[", cdl_dtype_get(t->dtype)->name));
        for (uint32_t d = 0; d < t->ndim; d++)
            CDL_TRY(cdl_buf_printf(b, "%s%lld", d ? "," : "", (long long)t->dim[d]));
        CDL_TRY(cdl_buf_printf(b, "],\"bytes\":%zu,\"file\":%u}", t->bytes, t->file));
    }
    return cdl_buf_putc(b, ']');
}

static cuddle_status put_facts(cdl_buf *b, const facts *k)
{
    CDL_TRY(cdl_buf_putc(b, '{'));
    CDL_TRY(put_text(b, "architecture", k->f.architecture));
    CDL_TRY(put_text(b, "path", k->f.path));
    CDL_TRY(cdl_buf_printf(b, "\"parameters\":%llu,\"bytes\":%llu,\"vocab\":%u,"
            "\"hidden\":%u,\"layers\":%u,\"heads\":%u,"
            "\"kv_heads\":%u,\"head_dim\":%u,\"context_max\":%u,\"types\":{", (unsigned long long)k->f.parameters,
            (unsigned long long)k->f.bytes, k->f.vocab, k->f.hidden, k->f.layers, k->f.heads, k->f.kv_heads,
                    k->f.head_dim,
            k->f.context_max));
    const char *comma = "";
    for (int t = 0; t < CDL_DTYPE_COUNT; t++) {
        if (!k->by_type[t].tensors)
            continue;
        CDL_TRY(cdl_buf_printf(b, "%s\"%s\":{\"tensors\":%llu,\"bytes\":%llu}", comma,
                cdl_dtype_get((cdl_dtype)t)->name,
                (unsigned long long)k->by_type[t].tensors, (unsigned long long)k->by_type[t].bytes));
        comma = ",";
    }
    CDL_TRY(cdl_buf_puts(b, "},\"files\":["));
    for (uint32_t i = 0; i < k->files; i++) {
        const char *file = cdl_checkpoint_file(k->c, i);
        CDL_TRY(cdl_buf_puts(b, i ? "," : ""));
        CDL_TRY(cdl_json_put_string(b, file, strlen(file)));
    }
    CDL_TRY(cdl_buf_puts(b, "],\"config\":"));
    CDL_TRY(put_json(b, cdl_checkpoint_config(k->c)));
    if (cdl_checkpoint_gguf(k->c)) {
        CDL_TRY(cdl_buf_puts(b, ",\"metadata\":"));
        CDL_TRY(put_json(b, cdl_checkpoint_gguf(k->c)));
    }
    if (tensors)
        CDL_TRY(put_tensors(b, k->c));
    return cdl_buf_putc(b, '}');
}

/* ---- */

static int print_model(const char *name)
{
    cuddle_model *m;
    if (cuddle_model_open(&m, name) != CUDDLE_OK)
        return cli_fail_status();
    facts k = gather(m);
    cdl_buf b = { 0 };
    cuddle_status st = CUDDLE_OK;
    if (!json)
        print_text(&k);
    else if ((st = put_facts(&b, &k)) == CUDDLE_OK)
        puts(b.data);
    cdl_buf_free(&b);
    cuddle_model_close(m);
    return st == CUDDLE_OK ? CLI_OK : cli_fail_status();
}

static void print_gpu(uint32_t i, const cdl_device_facts *f)
{
    if (!json) {
        printf("cuda:%u  %s, compute capability %u.%u, %u multiprocessors, %.1f GiB, %u MHz\n", i, f->name,
                f->major, f->minor,
                f->multiprocessors, (double)f->bytes / (1 << 30), f->clock_mhz);
        return;
    }
    cdl_buf b = { 0 };
    if (put_text(&b, "device", f->name) == CUDDLE_OK)
        printf(",{\"name\":\"cuda:%u\",%s\"capability\":\"%u.%u\",\"multiprocessors\":%u,"
                "\"bytes\":%llu,\"clock_mhz\":%u}",
                i, b.data, f->major, f->minor, f->multiprocessors, (unsigned long long)f->bytes, f->clock_mhz);
    cdl_buf_free(&b);
}

/* Without a driver the reason goes to stderr: the CPU is there all the same. */
static int print_devices(void)
{
    const cdl_cpu_set *set;
    uint32_t n;
    if (cdl_cpu_select(&set, NULL) != CUDDLE_OK)
        return cli_fail_status();
    printf(json ? "[{\"name\":\"cpu\",\"kernels\":\"%s\",\"threads\":%u}" : "cpu  kernels %s, %u threads\n",
            set->name,
            cdl_pool_default_threads());
    if (cdl_device_count(&n) != CUDDLE_OK)
        cli_note("no GPU: %s", cuddle_errmsg());
    for (uint32_t i = 0; i < n; i++) {
        cdl_device_facts f;
        if (cdl_device_describe(&f, i) != CUDDLE_OK)
            cli_note("%s", cuddle_errmsg());
        else
            print_gpu(i, &f);
    }
    if (json)
        puts("]");
    return CLI_OK;
}

static int run(char **args);
const cli_command cmd_info = {
    "info", "show what a model's files hold", "MODEL [--tensors] [--json] | --devices",
    "Prints architecture, sizes, types, files and metadata; reads no weights.\n",
    options, sizeof options / sizeof *options, 0, 1, run };

static int run(char **args)
{
    if (devices)
        return print_devices();
    if (!args[0]) {
        cli_fail("an argument is missing; usage: cuddle info %s", cmd_info.synopsis);
        return CLI_USAGE;
    }
    return print_model(args[0]);
}
