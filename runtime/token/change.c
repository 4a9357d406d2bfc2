/* change.c - truncation, padding and added tokens of an open tokenizer. */
#include <string.h>

#include "base/utf8.h"
#include "token/load.h"

enum { PAD_MAX = 1 << 20 };

cuddle_status cuddle_tokenizer_set_truncation(cuddle_tokenizer *t, const cuddle_truncation *o)
{
    cuddle_truncation mine = { 0 };
    t->truncation.on = o;
    if (!o)
        return CUDDLE_OK;
    memcpy(&mine, o, o->size < sizeof mine ? o->size : sizeof mine);
    t->truncation.on = false;
    if (mine.max_length > INT32_MAX || mine.stride > INT32_MAX || (unsigned)mine.strategy > CUDDLE_TRUNCATE_ONLY_SECOND)
        return cdl_status_fail(CUDDLE_ERR_ARG, "truncation: max_length, stride or strategy is out of range");
    static const cdl_truncation strategies[] = { CDL_LONGEST_FIRST, CDL_ONLY_FIRST, CDL_ONLY_SECOND };
    t->truncation.on = true;
    t->truncation.left = mine.left;
    t->truncation.strategy = strategies[mine.strategy];
    t->truncation.max = (uint32_t)mine.max_length;
    t->truncation.stride = (uint32_t)mine.stride;
    return CUDDLE_OK;
}

cuddle_status cuddle_tokenizer_set_padding(cuddle_tokenizer *t, const cuddle_padding *o)
{
    cuddle_padding mine = { 0 };
    t->padding.on = false;
    if (!o)
        return CUDDLE_OK;
    memcpy(&mine, o, o->size < sizeof mine ? o->size : sizeof mine);
    if (mine.length > PAD_MAX || mine.multiple_of > PAD_MAX || mine.id < 0)
        return cdl_status_fail(CUDDLE_ERR_ARG, "padding: length, multiple or id is out of range");
    const char *text = cdl_arena_strdup(&t->arena, mine.token ? mine.token : "");
    if (!text)
        return cdl_status_nomem("the tokenizer");
    t->padding.on = true;
    t->padding.left = mine.left;
    t->padding.longest = !mine.fixed;
    t->padding.fixed = (uint32_t)mine.length;
    t->padding.multiple = (uint32_t)mine.multiple_of;
    t->padding.id = mine.id;
    t->padding.type = mine.type;
    t->padding.text = text;
    return CUDDLE_OK;
}

void cuddle_tokenizer_set_encode_special(cuddle_tokenizer *t, bool on)
{
    t->added.encode_special = on;
}

/* Whether it is there in just this way. */
static bool is_there(const cuddle_tokenizer *t, const cuddle_added_token *k)
{
    for (uint32_t i = t->added.n; i-- > 0; ) {
        const cdl_added *a = &t->added.v[i];
        if (a->n == k->n && memcmp(a->content, k->content, k->n) == 0)
            return a->single_word == k->single_word && a->lstrip == k->lstrip && a->rstrip == k->rstrip
                && a->normalized == k->normalized && a->special == k->special;
    }
    return false;
}

cuddle_status cuddle_tokenizer_add_tokens(cuddle_tokenizer *t, const cuddle_added_token *v, size_t n, size_t *added)
{
    *added = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i].n > INT32_MAX || cdl_utf8_valid(v[i].content, v[i].n) < v[i].n)
            return cdl_status_fail(CUDDLE_ERR_ARG, "added token %zu is not UTF-8, or over 2 GiB", i);
        if (!v[i].n || is_there(t, &v[i]))
            continue;
        cdl_added a = { .content = v[i].content, .n = (uint32_t)v[i].n, .single_word = v[i].single_word,
                        .lstrip = v[i].lstrip, .rstrip = v[i].rstrip, .normalized = v[i].normalized,
                        .special = v[i].special };
        CDL_TRY(cdl_tokenizer_add(t, &a));
        ++*added;
    }
    return *added ? cdl_tokenizer_number_added(t) : CUDDLE_OK;
}
