#include "model/pre_tokenizers.h"

#include <string.h>

#include "base/buf.h"

/* As the models' tokenizer.json have them. */
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define BYTES_ONLY "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
#define SPLIT(regex) "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\"}"
#define SEQUENCE(...) "{\"type\":\"Sequence\",\"pretokenizers\":[" __VA_ARGS__ "]}"
#define DIGITS "{\"type\":\"Digits\",\"individual_digits\":true},"
#define WORDS_TO(digits) "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" digits \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define UPPERISH "[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define LOWERISH "[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define CASES_TO(tail, digits) "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" UPPERISH "*" LOWERISH "+" tail \
    "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" UPPERISH "+" LOWERISH "*" tail "|" digits \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define O200K CASES_TO("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "\\\\p{N}{1,3}")
#define TEKKEN CASES_TO("", "\\\\p{N}")
#define QWEN35 "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{L}\\\\p{M}]+|\\\\p{N}" \
    "| ?[^\\\\s\\\\p{L}\\\\p{M}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define DEEPSEEK3 SPLIT("\\\\p{N}{1,3}") "," SPLIT("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+") "," \
    SPLIT("[!\\\"#$%&'()*+,\\\\-./:;<=>?@\\\\[\\\\\\\\\\\\]^_`{|}~][A-Za-z]+" \
    "|[^\\r\\n\\\\p{L}\\\\p{P}\\\\p{S}]?[\\\\p{L}\\\\p{M}]+| ?[\\\\p{P}\\\\p{S}]+[\\r\\n]*" \
    "|\\\\s*[\\r\\n]+|\\\\s+(?!\\\\S)|\\\\s+")

static const cdl_pre_tokenizer pre_tokenizers[] = {
    { "gpt-2", BYTE_LEVEL, false, false },
    { "default", BYTE_LEVEL, false, false },
    { "smollm", SEQUENCE(DIGITS BYTE_LEVEL), false, false },
    { "starcoder", SEQUENCE(DIGITS BYTE_LEVEL), false, false },
    { "refact", SEQUENCE(DIGITS BYTE_LEVEL), false, false },
    { "command-r", SEQUENCE(DIGITS BYTE_LEVEL), false, false },
    { "llama-bpe", SEQUENCE(SPLIT(WORDS_TO("\\\\p{N}{1,3}")) "," BYTES_ONLY), false, true },
    { "llama3", SEQUENCE(SPLIT(WORDS_TO("\\\\p{N}{1,3}")) "," BYTES_ONLY), false, true },
    { "smaug-bpe", SEQUENCE(SPLIT(WORDS_TO("\\\\p{N}{1,3}")) "," BYTES_ONLY), false, true },
    { "qwen2", SEQUENCE(SPLIT(WORDS_TO("\\\\p{N}")) "," BYTES_ONLY), true, false },
    { "deepseek-r1-qwen", SEQUENCE(SPLIT(WORDS_TO("\\\\p{N}")) "," BYTES_ONLY), true, false },
    { "qwen35", SEQUENCE(SPLIT(QWEN35) "," BYTES_ONLY), true, false },
    { "gpt-4o", SEQUENCE(SPLIT(O200K) "," BYTES_ONLY), false, false },
    { "tekken", SEQUENCE(SPLIT(TEKKEN) "," BYTES_ONLY), false, true },
    { "deepseek-v3", SEQUENCE(DEEPSEEK3 "," BYTES_ONLY), false, false },
};
enum { N_PRE_TOKENIZERS = sizeof pre_tokenizers / sizeof *pre_tokenizers };

const cdl_pre_tokenizer *cdl_pre_tokenizer_find(const char *pre)
{
    for (size_t i = 0; i < N_PRE_TOKENIZERS; i++)
        if (strcmp(pre, pre_tokenizers[i].pre) == 0)
            return &pre_tokenizers[i];
    return NULL;
}

/* ---- By what it does ---- */

/* What a pre_tokenizer does, as a text that is equal when they do the same. */
static cuddle_status describe(cdl_buf *b, const cdl_json *v)
{
    const cdl_json *steps = cdl_json_get(v, "pretokenizers");
    const char *type = cdl_json_string(cdl_json_get(v, "type"), "none");
    if (strcmp(type, "Sequence") == 0) {
        for (size_t i = 0; i < cdl_json_len(steps); i++)
            CDL_TRY(describe(b, cdl_json_at(steps, i)));
        return CUDDLE_OK;
    }
    CDL_TRY(cdl_buf_printf(b, "[%s", type));
    if (strcmp(type, "Split") == 0)
        CDL_TRY(cdl_buf_printf(b, " %s %s %d", cdl_json_string(cdl_json_get(cdl_json_get(v, "pattern"), "Regex"), "?"),
                cdl_json_string(cdl_json_get(v, "behavior"), "?"), cdl_json_bool(cdl_json_get(v, "invert"), false)));
    if (strcmp(type, "Digits") == 0)
        CDL_TRY(cdl_buf_printf(b, " %d", cdl_json_bool(cdl_json_get(v, "individual_digits"), false)));
    if (strcmp(type, "ByteLevel") == 0)
        CDL_TRY(cdl_buf_printf(b, " %d %d", cdl_json_bool(cdl_json_get(v, "add_prefix_space"), true),
                cdl_json_bool(cdl_json_get(v, "use_regex"), true)));
    return cdl_buf_putc(b, ']');
}

typedef struct {
    cdl_arena arena;
    cdl_buf wanted, has;
} comparing;

static cuddle_status does_the_same(comparing *c, const cdl_pre_tokenizer *p, const cdl_json *tokenizer, bool *same)
{
    const cdl_json *v, *model = cdl_json_get(tokenizer, "model");
    const char *normalizer = cdl_json_string(cdl_json_get(cdl_json_get(tokenizer, "normalizer"), "type"), "none");
    CDL_TRY(cdl_json_parse(&v, &c->arena, p->json, strlen(p->json), p->pre));
    cdl_buf_clear(&c->has);
    CDL_TRY(describe(&c->has, v));
    *same = strcmp(c->has.data, c->wanted.data) == 0 && strcmp(normalizer, p->nfc ? "NFC" : "none") == 0
        && cdl_json_bool(cdl_json_get(model, "ignore_merges"), false) == p->ignore_merges;
    return CUDDLE_OK;
}

cuddle_status cdl_pre_tokenizer_of(const cdl_pre_tokenizer **out, const cdl_json *tokenizer)
{
    comparing c = { 0 };
    *out = NULL;
    cuddle_status st = describe(&c.wanted, cdl_json_get(tokenizer, "pre_tokenizer"));
    for (size_t i = 0; i < N_PRE_TOKENIZERS && st == CUDDLE_OK && !*out; i++) {
        bool same = false;
        st = does_the_same(&c, &pre_tokenizers[i], tokenizer, &same);
        if (same)
            *out = &pre_tokenizers[i];
    }
    cdl_arena_free(&c.arena);
    cdl_buf_free(&c.wanted);
    cdl_buf_free(&c.has);
    return st;
}
