/* fuzz_jinja.c - a template and its data: the first line holds the variables as JSON, the rest is the template.
 * Bytes that are no such thing are a template for a conversation. */
#include <stdint.h>
#include <string.h>

#include "token/jinja.h"

static const char conversation[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},"
    "{\"role\":\"user\",\"content\":\" \xc3\x89t\xc3\xa9 <b>\\n\\u0000\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
    "{\"id\":\"abcdefghi\",\"function\":{\"name\":\"f\",\"arguments\":"
    "{\"a\":1,\"b\":[1.5,true,null],\"c\":{\"d\":\"\"}}}}]},"
    "{\"role\":\"tool\",\"content\":{\"x\":-9223372036854775808}}],"
    "\"tools\":[{\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}}],"
    "\"documents\":null,\"add_generation_prompt\":true,\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}";

static const cdl_json *parse(cdl_arena *a, const char *text, size_t n)
{
    const cdl_json *v;
    return cdl_json_parse(&v, a, text, n, "data") == CUDDLE_OK && v->type == CDL_JSON_OBJECT ? v : NULL;
}

static void render(const cdl_jinja *t, const cdl_json *data)
{
    const cdl_jinja_limits limits = { .steps = 100000, .output_max = 1 << 18, .memory_max = 1 << 24 };
    cdl_jinja_var vars[64];
    size_t n = 0;
    cdl_buf b = { 0 };
    for (; n < cdl_json_len(data) && n < 64; n++)
        vars[n] = (cdl_jinja_var){ data->as.items[n].key, &data->as.items[n] };
    if (cdl_jinja_render(t, vars, n, 1753772096, &limits, &b) != CUDDLE_OK && !*cuddle_errmsg())
        __builtin_trap(); /* a failure explains itself */
    cdl_buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    cdl_arena a = { 0 };
    cdl_jinja *t;
    const char *s = (const char *)bytes, *line = size ? memchr(s, '\n', size) : NULL;
    const cdl_json *data = line && *s == '{' ? parse(&a, s, (size_t)(line - s)) : NULL;
    size_t skip = data ? (size_t)(line + 1 - s) : 0;
    if (!data)
        data = parse(&a, conversation, sizeof conversation - 1);
    if (cdl_jinja_parse(&t, s + skip, size - skip, "fuzz") == CUDDLE_OK) {
        render(t, data);
        cdl_jinja_free(t);
    }
    cdl_arena_free(&a);
    return 0;
}
