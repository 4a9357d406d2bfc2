/* fuzz_json.c - JSON of any bytes: the tree and the reader agree on what is JSON, and what is written is read again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void put(cdl_buf *b, const cdl_json *v);

static void must(cuddle_status st)
{
    if (st != CUDDLE_OK)
        abort();
}

static void put_items(cdl_buf *b, const cdl_json *v)
{
    bool object = v->type == CDL_JSON_OBJECT;
    must(cdl_buf_putc(b, object ? '{' : '['));
    for (size_t i = 0; i < v->n; i++) {
        const cdl_json *item = cdl_json_at(v, i);
        if (i)
            must(cdl_buf_putc(b, ','));
        if (object) {
            must(cdl_json_put_string(b, item->key, item->key_len));
            must(cdl_buf_putc(b, ':'));
        }
        put(b, item);
    }
    must(cdl_buf_putc(b, object ? '}' : ']'));
}

static void put(cdl_buf *b, const cdl_json *v)
{
    switch (v->type) {
    case CDL_JSON_NULL: must(cdl_buf_puts(b, "null")); break;
    case CDL_JSON_BOOL: must(cdl_buf_puts(b, v->as.b ? "true" : "false")); break;
    case CDL_JSON_INT: must(cdl_buf_printf(b, "%lld", (long long)v->as.i)); break;
    case CDL_JSON_DOUBLE: must(cdl_json_put_double(b, v->as.d)); break;
    case CDL_JSON_STRING: must(cdl_json_put_string(b, v->as.s, v->n)); break;
    default: put_items(b, v); break;
    }
}

/* Whether the pull reader takes the text. */
static bool reads(const uint8_t *data, size_t n)
{
    cdl_json_reader r;
    cdl_json_token t;
    cdl_buf text = { 0 };
    cdl_json number;
    cdl_json_reader_init(&r, (const char *)data, n, "fuzz");
    cuddle_status st;
    while ((st = cdl_json_next(&r, &t)) == CUDDLE_OK && t != CDL_JSON_T_END) {
        cdl_buf_clear(&text);
        if (t == CDL_JSON_T_STRING || t == CDL_JSON_T_KEY)
            st = cdl_json_unescape(&r, &text);
        if (t == CDL_JSON_T_NUMBER)
            st = cdl_json_number(&r, &number);
        if (st != CUDDLE_OK)
            break;
    }
    cdl_buf_free(&text);
    return st == CUDDLE_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    cdl_arena arena = { 0 };
    const cdl_json *tree, *again;
    bool parses = cdl_json_parse(&tree, &arena, (const char *)data, n, "fuzz") == CUDDLE_OK;
    if (parses && !reads(data, n))
        abort();
    if (!parses)
        (void)reads(data, n);
    if (parses) {
        cdl_buf first = { 0 }, second = { 0 };
        put(&first, tree);
        /* strings that are not UTF-8 become U+FFFD, so two keys may have become one: not parsed then */
        if (cdl_json_parse(&again, &arena, first.data, first.len, "again") == CUDDLE_OK) {
            put(&second, again);
            if (first.len != second.len || memcmp(first.data, second.data, first.len))
                abort();
        }
        cdl_buf_free(&first);
        cdl_buf_free(&second);
    }
    cdl_arena_free(&arena);
    return 0;
}
