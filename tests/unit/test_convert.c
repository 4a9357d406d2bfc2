/* From a Hugging Face folder to GGUF and on: the same logits, types that fit, tokenizer, and what goes wrong. */
#include "torture.h"

#include <math.h>

#include "base/json.h"
#include "cuddle_sequence.h"
#include "format/int4.h"
#include "model/convert.h"
#include "unit/folder.h"

#define SIZES "\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":3,\"num_attention_heads\":4," \
    "\"num_key_value_heads\":2,\"head_dim\":16,\"vocab_size\":96,\"max_position_embeddings\":128,"
#define THETA "\"rope_theta\":20000.0"
#define FACTORS "[1,1.5,2,2.5,3,3.5,4,5]"
#define LLAMA3 "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1," \
    "\"high_freq_factor\":4," \
    "\"original_max_position_embeddings\":16}"
#define LONGROPE "\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1,1.1,1.2,1.3,1.4,1.5,1.6,1.7]," \
    "\"long_factor\":" FACTORS "}"
#define GEMMA3_ROPE "\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"linear\",\"factor\":8," \
    "\"rope_theta\":1000000}," \
    "\"sliding_attention\":{\"rope_type\":\"default\",\"rope_theta\":10000}}"

static const struct {
    const char *name, *config;
} models[] = {
    { "llama", "{\"model_type\":\"llama\"," SIZES THETA ",\"tie_word_embeddings\":false}" },
    { "llama tied", "{\"model_type\":\"llama\"," SIZES THETA ",\"tie_word_embeddings\":true}" },
    { "llama with biases", "{\"model_type\":\"llama\"," SIZES THETA ",\"attention_bias\":true,\"mlp_bias\":true}" },
    { "llama linear", "{\"model_type\":\"llama\"," SIZES THETA ",\"rope_scaling\":{\"type\":\"linear\","
            "\"factor\":2}}" },
    { "llama llama3", "{\"model_type\":\"llama\"," SIZES THETA "," LLAMA3 "}" },
    { "llama yarn", "{\"model_type\":\"llama\"," SIZES THETA ",\"rope_scaling\":{\"type\":\"yarn\","
            "\"factor\":4,\"beta_fast\":24,"
        "\"original_max_position_embeddings\":32}}" },
    { "llama yarn, own attention_factor", "{\"model_type\":\"llama\"," SIZES THETA ","
            "\"rope_scaling\":{\"rope_type\":\"yarn\","
        "\"factor\":4,\"attention_factor\":1.25,\"original_max_position_embeddings\":32}}" },
    { "llama partial rotary", "{\"model_type\":\"llama\"," SIZES THETA ",\"partial_rotary_factor\":0.5}" },
    { "mistral", "{\"model_type\":\"mistral\"," SIZES THETA ",\"sliding_window\":5}" },
    { "mistral, all layers see all", "{\"model_type\":\"mistral\"," SIZES THETA ",\"sliding_window\":null}" },
    { "qwen2", "{\"model_type\":\"qwen2\"," SIZES THETA ",\"tie_word_embeddings\":false}" },
    { "qwen2 that slides", "{\"model_type\":\"qwen2\"," SIZES THETA ",\"use_sliding_window\":true,"
            "\"sliding_window\":4,"
        "\"max_window_layers\":1}" },
    { "qwen3", "{\"model_type\":\"qwen3\"," SIZES THETA ",\"tie_word_embeddings\":true}" },
    { "qwen3, all layers slide", "{\"model_type\":\"qwen3\"," SIZES THETA ",\"use_sliding_window\":true,"
            "\"sliding_window\":4,\"max_window_layers\":0}" },
    { "gemma", "{\"model_type\":\"gemma\"," SIZES THETA ",\"hidden_act\":\"gelu_pytorch_tanh\"}" },
    { "gemma2", "{\"model_type\":\"gemma2\"," SIZES THETA ",\"sliding_window\":4,\"query_pre_attn_scalar\":16,"
        "\"attn_logit_softcapping\":5.0,\"final_logit_softcapping\":10.0,"
        "\"hidden_activation\":\"gelu_pytorch_tanh\"}" },
    { "gemma2, own scale", "{\"model_type\":\"gemma2\"," SIZES THETA ",\"sliding_window\":4,"
            "\"query_pre_attn_scalar\":40}" },
    { "gemma3", "{\"model_type\":\"gemma3_text\"," SIZES "\"sliding_window\":4,\"query_pre_attn_scalar\":16,"
        "\"layer_types\":[\"sliding_attention\",\"full_attention\",\"sliding_attention\"]," GEMMA3_ROPE "}" },
    { "gemma3, other layers", "{\"model_type\":\"gemma3_text\"," SIZES "\"sliding_window\":4,"
            "\"query_pre_attn_scalar\":16,"
        "\"layer_types\":[\"full_attention\",\"sliding_attention\",\"full_attention\"]," GEMMA3_ROPE "}" },
    { "phi3", "{\"model_type\":\"phi3\"," SIZES THETA ",\"sliding_window\":6}" },
    { "phi3 longrope", "{\"model_type\":\"phi3\"," SIZES THETA ","
            "\"original_max_position_embeddings\":8," LONGROPE "}" },
    { "smollm3", "{\"model_type\":\"smollm3\"," SIZES THETA ",\"no_rope_layers\":[1,0,1],"
            "\"tie_word_embeddings\":true}" },
    { "gpt2", "{\"model_type\":\"gpt2\",\"n_embd\":64,\"n_layer\":2,\"n_head\":4,\"n_positions\":64,"
            "\"vocab_size\":96}" },
};
enum { N_MODELS = sizeof models / sizeof *models, TOKENS = 24, VOCAB = 96 };

/* The folder (or a file in it) to "<folder>/<out>". */
static cuddle_status convert(const char *in, const char *out, const char *type)
{
    cdl_checkpoint *c;
    cdl_convert_opts o = { .type = type, .threads = 2 };
    CDL_TRY(cdl_checkpoint_open(&c, in, false));
    cuddle_status st = cdl_convert(c, tiny_path(folder, out), &o);
    cdl_checkpoint_close(c);
    return st;
}

static void logits_of(float *out, const char *path)
{
    cuddle_model *m;
    cuddle_engine *e;
    cuddle_sequence *s;
    int32_t tokens[TOKENS];
    must(cuddle_model_open(&m, path));
    cuddle_model_facts facts = { .size = sizeof facts };
    cuddle_model_describe(m, &facts);
    assert_in_range(facts.vocab, 1, VOCAB);
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (i * 37 + 11) % (int)facts.vocab;
    cuddle_engine_opts o = { .size = sizeof o, .threads = 1, .context_max = 64, .logits_rows = TOKENS,
            .f32_activations = true };
    must(cuddle_engine_open(&e, m, &o));
    must(cuddle_sequence_open(&s, e));
    cuddle_feed f = { .sequence = s, .tokens = tokens, .n = TOKENS, .all_logits = true, .logits = out };
    must(cuddle_engine_feed(e, &f, 1));
    cuddle_sequence_close(s);
    cuddle_engine_close(e);
    cuddle_model_close(m);
}

static float largest(const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = fabsf(x[i]) > most || isnan(x[i]) ? fabsf(x[i]) : most;
    return most;
}

static void test_every_architecture_keeps_its_logits(void **state)
{
    (void)state;
    static float want[TOKENS * VOCAB], got[TOKENS * VOCAB];
    for (int i = 0; i < N_MODELS; i++) {
        must(tiny_model(folder, models[i].config));
        must(convert(folder, "out.gguf", "f32"));
        logits_of(want, tiny_path(folder, "model.safetensors"));
        logits_of(got, tiny_path(folder, "out.gguf"));
        float scale = largest(want, TOKENS * VOCAB);
        for (int k = 0; k < TOKENS * VOCAB; k++)
            got[k] -= want[k];
        float error = largest(got, TOKENS * VOCAB);
        print_message("%-36s largest logit %8.3f, error %.1e\n", models[i].name, (double)scale, (double)error);
        if (!(error <= 2e-5f * scale) || !(scale > 0.01f))
            fail_msg("%s: error %g of %g", models[i].name, (double)error, (double)scale);
        unlink(tiny_path(folder, "out.gguf"));
    }
}

static cdl_dtype type_in(const char *file, const char *tensor)
{
    cdl_checkpoint *c;
    must(cdl_checkpoint_open(&c, tiny_path(folder, file), false));
    const cdl_tensor_entry *t = cdl_checkpoint_find(c, tensor);
    assert_non_null(t);
    cdl_dtype type = t->dtype;
    cdl_checkpoint_close(c);
    return type;
}

#define LAYER "model.layers.0."

static void test_types_follow_the_recipe_and_the_width(void **state)
{
    (void)state;
    static const struct { const char *type; cdl_dtype product, narrow, head; } cases[] = {
        { "f16", CDL_DTYPE_F16, CDL_DTYPE_F16, CDL_DTYPE_F16 },
        { "bf16", CDL_DTYPE_BF16, CDL_DTYPE_BF16, CDL_DTYPE_BF16 },
        { "q8_0", CDL_DTYPE_Q8_0, CDL_DTYPE_Q8_0, CDL_DTYPE_Q8_0 },
        { "q4_0", CDL_DTYPE_Q4_0, CDL_DTYPE_Q4_0, CDL_DTYPE_Q6_K },
        { "q5_1", CDL_DTYPE_Q5_1, CDL_DTYPE_Q5_1, CDL_DTYPE_Q6_K },
        { "Q4_K", CDL_DTYPE_Q4_K, CDL_DTYPE_Q5_0, CDL_DTYPE_Q6_K },
        { "q5_k", CDL_DTYPE_Q5_K, CDL_DTYPE_Q5_1, CDL_DTYPE_Q6_K },
        { "q6_k", CDL_DTYPE_Q6_K, CDL_DTYPE_Q8_0, CDL_DTYPE_Q6_K },
        { "q2_k", CDL_DTYPE_Q2_K, CDL_DTYPE_IQ4_NL, CDL_DTYPE_Q6_K },
    };
    must(tiny_model(folder, "{\"model_type\":\"llama\",\"hidden_size\":256,\"intermediate_size\":96,"
            "\"num_hidden_layers\":1,"
            "\"num_attention_heads\":4,\"vocab_size\":96,\"tie_word_embeddings\":false}"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        must(convert(folder, "out.gguf", cases[i].type));
        assert_int_equal(type_in("out.gguf", LAYER "self_attn.q_proj.weight"), cases[i].product);
        assert_int_equal(type_in("out.gguf", LAYER "mlp.down_proj.weight"), cases[i].narrow);
        assert_int_equal(type_in("out.gguf", "lm_head.weight"), cases[i].head);
        assert_int_equal(type_in("out.gguf", LAYER "input_layernorm.weight"), CDL_DTYPE_F32);
    }
    must(convert(folder, "out.gguf", "q4_k_m"));
    assert_int_equal(type_in("out.gguf", LAYER "self_attn.v_proj.weight"), CDL_DTYPE_Q6_K);
    assert_int_equal(type_in("out.gguf", LAYER "self_attn.k_proj.weight"), CDL_DTYPE_Q4_K);
}

static void test_a_width_of_no_blocks_stays_f16(void **state)
{
    (void)state;
    must(tiny_model(folder, "{\"model_type\":\"llama\",\"hidden_size\":32,\"intermediate_size\":56,"
            "\"num_hidden_layers\":1,"
            "\"num_attention_heads\":4,\"vocab_size\":96}"));
    must(convert(folder, "out.gguf", "q4_0"));
    assert_int_equal(type_in("out.gguf", LAYER "mlp.down_proj.weight"), CDL_DTYPE_F16);
    assert_int_equal(type_in("out.gguf", LAYER "mlp.up_proj.weight"), CDL_DTYPE_Q4_0);
}

/* The weights of 4-bit groups in a GGUF file of that type are the same numbers. */
static void check_int4_kept(const char *in, const char *type)
{
    static const char *const modules[] = { "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj",
        "mlp.gate_proj", "mlp.down_proj" };
    cdl_checkpoint *a, *b;
    must(convert(in, "out.gguf", type));
    must(cdl_checkpoint_open(&a, in, false));
    must(cdl_checkpoint_open(&b, tiny_path(folder, "out.gguf"), false));
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        char name[64];
        float want[128], got[128];
        snprintf(name, sizeof name, LAYER "%s.weight", modules[i]);
        const cdl_tensor_entry *x = cdl_checkpoint_find(a, name), *y = cdl_checkpoint_find(b, name);
        assert_true(x && y && x->int4 && !y->int4);
        assert_in_range(x->dim[1], 1, 128);
        assert_string_equal(cdl_dtype_get(y->dtype)->name, type);
        for (uint32_t r = 0; r < x->dim[0]; r++) {
            cdl_int4_rows((uint8_t *)want, x->int4, CDL_DTYPE_F32, r, 1);
            cdl_dtype_to_f32(got, y->dtype, y->data + r * (y->bytes / (size_t)y->dim[0]), (size_t)x->dim[1]);
            assert_memory_equal(want, got, (size_t)x->dim[1] * sizeof *got);
        }
    }
    cdl_checkpoint_close(a);
    cdl_checkpoint_close(b);
}

static void test_int4_groups_become_blocks(void **state)
{
    static const char *const names[] = { "gptq", "gptq_sym", "gptq_v2", "gptq_act_order", "awq" };
    static float want[TOKENS * VOCAB], got[TOKENS * VOCAB];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char in[64];
        snprintf(in, sizeof in, "tests/golden/int4/%s", names[i]);
        must(convert(in, "out.gguf", "f32"));
        logits_of(want, in);
        logits_of(got, tiny_path(folder, "out.gguf"));
        float bound = (strcmp(names[i], "gptq_act_order") ? 2e-5f : 2e-3f) * largest(want, TOKENS * VOCAB);
        for (int k = 0; k < TOKENS * VOCAB; k++)
            got[k] -= want[k];
        assert_true(bound > 0 && largest(got, TOKENS * VOCAB) <= bound);
    }
    check_int4_kept("tests/golden/int4/gptq_sym", "q4_0");
    check_int4_kept("tests/golden/int4/gptq_sym", "q5_0");
    check_int4_kept("tests/golden/int4/awq", "q5_0");
}

static void test_from_gguf_nothing_is_lost(void **state)
{
    (void)state;
    cdl_checkpoint *a, *b;
    must(tiny_model(folder, models[4].config)); /* with RoPE's factors as a tensor */
    must(convert(folder, "a.gguf", "f32"));
    must(convert(tiny_path(folder, "a.gguf"), "b.gguf", "f32"));
    must(cdl_checkpoint_open(&a, tiny_path(folder, "a.gguf"), false));
    must(cdl_checkpoint_open(&b, tiny_path(folder, "b.gguf"), false));
    assert_int_equal(cdl_checkpoint_count(a), cdl_checkpoint_count(b));
    assert_int_equal(cdl_checkpoint_gguf_count(a), cdl_checkpoint_gguf_count(b));
    for (size_t i = 0; i < cdl_checkpoint_count(a); i++) {
        const cdl_tensor_entry *x = cdl_checkpoint_at(a, i), *y = cdl_checkpoint_find(b, x->name);
        assert_non_null(y);
        assert_int_equal(x->bytes, y->bytes);
        assert_memory_equal(x->data, y->data, x->bytes);
    }
    assert_non_null(cdl_checkpoint_find(b, "rope_freqs.weight"));
    cdl_checkpoint_close(a);
    cdl_checkpoint_close(b);
}

/* ---- Tokenizer ---- */

#define ADDED(id, text) "{\"id\":" id ",\"content\":\"" text "\",\"special\":true}"

static const char byte_level[] = "{\"added_tokens\":[" ADDED("8", "<s>") "," ADDED("9", "</s>") "],"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true},\"normalizer\":null,"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\","
    "\"type_id\":0}},"
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
    "{\"Sequence\":{\"id\":\"B\",\"type_id\":0}}],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[8],"
    "\"tokens\":[\"<s>\"]}}},"
    "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
    "\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"\u0120\":3,\"ab\":4,\"\u0120ab\":5,\"bc\":6,\"abc\":7},"
    "\"merges\":[\"a b\",[\"\u0120\",\"ab\"],\"b c\",[\"ab\",\"c\"]]}}";

static const char pieces[] = "{\"added_tokens\":[" ADDED("0", "<unk>") "," ADDED("1", "<s>") "," ADDED("2", "</s>") "],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\u2581\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\u2581\"}]},\"pre_tokenizer\":null,"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\","
    "\"type_id\":0}},"
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
    "{\"Sequence\":{\"id\":\"B\",\"type_id\":0}}],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],"
    "\"tokens\":[\"<s>\"]}}},"
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
    "\"pattern\":{\"String\":\"\u2581\"},\"content\":\" \"},"
    "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":true,"
    "\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2,\"<0x63>\":3,\"a\":4,\"b\":5,\"\u2581\":6,\"ab\":7,\"ba\":8,"
    "\"\u2581ab\":9,\"\u2581a\":10},"
    "\"merges\":[\"b a\",\"a b\",\"\u2581 a\",\"\u2581 ab\",\"\u2581a b\"]}}";

/* Only cuddle's own reading of tokenizer.json can say this one. */
static const char words[] = "{\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"Whitespace\"},"
    "\"post_processor\":null,\"decoder\":null,\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"?\","
    "\"vocab\":{\"?\":0,\"ab\":1,\"abc\":2}}}";

static size_t encode(int32_t *ids, size_t max, const char *path, const char *text)
{
    cuddle_model *m;
    const cuddle_tokenizer *t;
    cuddle_encoding *e;
    cuddle_encoding_view v = { .size = sizeof v };
    must(cuddle_model_open(&m, path));
    must(cuddle_model_tokenizer(m, &t));
    must(cuddle_encoding_new(&e));
    must(cuddle_tokenizer_encode(t, e, text, strlen(text), NULL));
    cuddle_encoding_look(e, &v);
    size_t n = v.n < max ? v.n : max;
    memcpy(ids, v.ids, n * sizeof *ids);
    cuddle_encoding_free(e);
    cuddle_model_close(m);
    return n;
}

static void test_the_tokenizer_comes_along(void **state)
{
    (void)state;
    const char *const files[] = { byte_level, pieces, words };
    const char *const texts[] = { "abc ab bca", "ab bab cab", "ab abc ab" };
    must(tiny_model(folder, models[0].config));
    tiny_write_text(folder, "tokenizer_config.json", "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"}}");
    for (int i = 0; i < 3; i++) {
        int32_t want[64], got[64];
        tiny_write_text(folder, "tokenizer.json", files[i]);
        must(convert(folder, "out.gguf", "f16"));
        size_t n = encode(want, 64, folder, texts[i]), k = 0;
        unlink(tiny_path(folder, "tokenizer.json"));
        k = encode(got, 64, tiny_path(folder, "out.gguf"), texts[i]);
        assert_true(n >= 3);
        assert_int_equal(n, k);
        assert_memory_equal(want, got, n * sizeof *want);
    }
}

static void test_metadata_name_ends_and_template(void **state)
{
    (void)state;
    cdl_checkpoint *c;
    must(tiny_model(folder, models[0].config));
    tiny_write_text(folder, "tokenizer.json", byte_level);
    tiny_write_text(folder, "tokenizer_config.json",
            "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"chat_template\":["
            "{\"name\":\"default\",\"template\":\"{{ x }}\"},{\"name\":\"tool_use\",\"template\":\"{{ tools }}\"}]}");
    must(convert(folder, "out.gguf", "q8_0"));
    must(cdl_checkpoint_open(&c, tiny_path(folder, "out.gguf"), false));
    const cdl_json *meta = cdl_checkpoint_gguf(c);
    assert_int_equal(cdl_json_int(cdl_json_get(meta, "tokenizer.ggml.bos_token_id"), -1), 8);
    assert_int_equal(cdl_json_int(cdl_json_get(meta, "tokenizer.ggml.eos_token_id"), -1), 9);
    assert_true(cdl_json_bool(cdl_json_get(meta, "tokenizer.ggml.add_bos_token"), false));
    assert_string_equal(cdl_json_string(cdl_json_get(meta, "tokenizer.chat_template"), ""), "{{ x }}");
    assert_string_equal(cdl_json_string(cdl_json_get(meta, "tokenizer.chat_template.tool_use"), ""), "{{ tools }}");
    assert_string_equal(cdl_json_string(cdl_json_get(meta, "tokenizer.ggml.pre"), ""), "gpt-2");
    assert_int_equal(cdl_json_int(cdl_json_get(meta, "general.file_type"), -1), 7);
    assert_null(cdl_json_get(meta, "tokenizer.huggingface.json"));
    cdl_gguf_array tokens;
    assert_true(cdl_checkpoint_gguf_array(c, "tokenizer.ggml.tokens", &tokens));
    assert_int_equal(tokens.n, VOCAB);
    cdl_checkpoint_close(c);
}

/* ---- What goes wrong ---- */

static void expect(cuddle_status st, cuddle_status want, const char *text)
{
    if (st != want || !strstr(cuddle_errmsg(), text))
        fail_msg("%s: %s; wanted '%s'", cuddle_status_name(st), cuddle_errmsg(), text);
}

static void test_failures_leave_no_file(void **state)
{
    (void)state;
    must(tiny_model(folder, models[0].config));
    unsigned files = tiny_count(folder);
    expect(convert(folder, "out.gguf", "q9"), CUDDLE_ERR_ARG, "--quantize q9");
    expect(convert(folder, "no/such/out.gguf", "f16"), CUDDLE_ERR_IO, "no/such/out.gguf");
    tiny_write_text(folder, "tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,"
            "\"vocab\":{},\"merges\":[3]},"
            "\"normalizer\":{\"type\":\"Replace\"}}");
    expect(convert(folder, "out.gguf", "f16"), CUDDLE_ERR_FORMAT, "model.merges[0]");
    tiny_write_text(folder, "tokenizer.json", "{\"model\":");
    expect(convert(folder, "out.gguf", "f16"), CUDDLE_ERR_FORMAT, "tokenizer.json");
    unlink(tiny_path(folder, "tokenizer.json"));
    tiny_write_text(folder, "config.json", "{\"model_type\":\"llama\"," SIZES THETA ",\"hidden_act\":\"relu\"}");
    expect(convert(folder, "out.gguf", "f16"), CUDDLE_ERR_UNSUPPORTED, "activation");
    tiny_write_text(folder, "config.json", "{\"model_type\":\"qwen3\"," SIZES THETA "}");
    expect(convert(folder, "out.gguf", "f16"), CUDDLE_ERR_NOTFOUND, "q_norm.weight is missing");
    tiny_write_text(folder, "config.json", "{\"model_type\":\"rwkv9\"}");
    expect(convert(folder, "out.gguf", "f16"), CUDDLE_ERR_UNSUPPORTED, "rwkv9");
    assert_int_equal(tiny_count(folder), files);
}

static void test_what_gguf_cannot_say_is_refused(void **state)
{
    (void)state;
    static const struct { const char *config, *error; } cases[] = {
        { "{\"model_type\":\"gemma\"," SIZES THETA ",\"hidden_act\":\"silu\"}", "activation" },
        { "{\"model_type\":\"gpt2\",\"n_embd\":64,\"n_layer\":2,\"n_head\":4,\"n_positions\":64,\"vocab_size\":96,"
          "\"scale_attn_weights\":false}", "scales its attention" },
        { "{\"model_type\":\"gpt2\",\"n_embd\":64,\"n_layer\":2,\"n_head\":4,\"n_positions\":64,\"vocab_size\":96,"
          "\"scale_attn_by_inverse_layer_idx\":true}", "scales its attention" },
        { "{\"model_type\":\"gemma3_text\"," SIZES "\"sliding_window\":4,\"rope_parameters\":{\"full_attention\":"
          "{\"rope_type\":\"default\"},\"sliding_attention\":{\"rope_type\":\"linear\",\"factor\":2}}}",
          "linear for gemma3's sliding layers" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        must(tiny_model(folder, cases[i].config));
        unsigned files = tiny_count(folder);
        expect(convert(folder, "out.gguf", "f16"), CUDDLE_ERR_UNSUPPORTED, cases[i].error);
        assert_int_equal(tiny_count(folder), files);
    }
}

static bool stop(void *user, const char *what, uint64_t done, uint64_t total)
{
    (void)user, (void)what, (void)done, (void)total;
    return false;
}

static void test_a_cancelled_conversion_leaves_no_file(void **state)
{
    (void)state;
    cdl_checkpoint *c;
    cdl_convert_opts o = { .type = "f16", .threads = 1, .progress = stop };
    must(tiny_model(folder, models[0].config));
    must(cdl_checkpoint_open(&c, folder, false));
    expect(cdl_convert(c, tiny_path(folder, "out.gguf"), &o), CUDDLE_ERR_CANCELLED, "cancelled");
    cdl_checkpoint_close(c);
    assert_int_equal(tiny_count(folder), 2);
}

static void test_weights_that_are_no_numbers_are_named(void **state)
{
    (void)state;
    cdl_checkpoint *c;
    must(tiny_model(folder, models[0].config));
    must(cdl_checkpoint_open(&c, folder, false));
    const cdl_tensor_entry *t = cdl_checkpoint_find(c, LAYER "mlp.up_proj.weight");
    FILE *f = fopen(tiny_path(folder, "model.safetensors"), "r+b");
    const uint8_t nan[4] = { 0, 0, 0xc0, 0x7f };
    size_t header = 0;
    assert_int_equal(fread(&header, 8, 1, f), 1);
    const cdl_tensor_entry *first = t;
    for (size_t i = 0; i < cdl_checkpoint_count(c); i++)
        first = cdl_checkpoint_at(c, i)->data < first->data ? cdl_checkpoint_at(c, i) : first;
    fseek(f, (long)(8 + header + (size_t)(t->data - first->data) + 400), SEEK_SET);
    assert_int_equal(fwrite(nan, 4, 1, f), 1);
    fclose(f);
    cdl_checkpoint_close(c);
    expect(convert(folder, "out.gguf", "q4_0"), CUDDLE_ERR_FORMAT, "blk.0.ffn_up.weight: a value is not finite");
    assert_int_equal(tiny_count(folder), 2);
    must(convert(folder, "out.gguf", "f32"));
}

static cuddle_status convert_once(void *user)
{
    (void)user;
    return convert(folder, "out.gguf", "q8_0");
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    must(tiny_model(folder, models[0].config));
    tiny_write_text(folder, "tokenizer.json", pieces);
    tiny_write_text(folder, "tokenizer_config.json", "{\"bos_token\":\"<s>\",\"chat_template\":["
            "{\"name\":\"default\",\"template\":\"{{ x }}\"},{\"name\":\"tool_use\",\"template\":\"{{ tools }}\"}]}");
    must(convert(folder, "out.gguf", "q8_0"));
    unsigned files = tiny_count(folder);
    assert_true(torture(convert_once, NULL, false, 1) > 20);
    torture(convert_once, NULL, true, 7);
    assert_int_equal(tiny_count(folder), files);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_every_architecture_keeps_its_logits), TEST(test_types_follow_the_recipe_and_the_width),
        TEST(test_a_width_of_no_blocks_stays_f16), TEST(test_int4_groups_become_blocks),
        TEST(test_from_gguf_nothing_is_lost),
                TEST(test_the_tokenizer_comes_along),
        TEST(test_metadata_name_ends_and_template), TEST(test_failures_leave_no_file),
        TEST(test_what_gguf_cannot_say_is_refused),
        TEST(test_a_cancelled_conversion_leaves_no_file), TEST(test_weights_that_are_no_numbers_are_named),
        TEST(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
