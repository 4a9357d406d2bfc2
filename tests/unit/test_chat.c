/* Chat templates: the references of real models, how a request becomes variables, where a model's template is found. */
#include "torture.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cuddle_model.h"
#include "model/chat_load.h"
#include "refs.h"

/* ---- The references ---- */

static void put_json(cdl_buf *b, const cdl_json *v)
{
    bool object = v->type == CDL_JSON_OBJECT;
    switch (v->type) {
    case CDL_JSON_NULL: MUST(cdl_buf_puts(b, "null")); break;
    case CDL_JSON_BOOL: MUST(cdl_buf_puts(b, v->as.b ? "true" : "false")); break;
    case CDL_JSON_INT: MUST(cdl_buf_printf(b, "%lld", (long long)v->as.i)); break;
    case CDL_JSON_DOUBLE: MUST(cdl_json_put_double(b, v->as.d)); break;
    case CDL_JSON_STRING: MUST(cdl_json_put_string(b, v->as.s, v->n)); break;
    default:
        MUST(cdl_buf_putc(b, object ? '{' : '['));
        for (size_t i = 0; i < v->n; i++) {
            if (i)
                MUST(cdl_buf_putc(b, ','));
            if (object) {
                MUST(cdl_json_put_string(b, v->as.items[i].key, v->as.items[i].key_len));
                MUST(cdl_buf_putc(b, ':'));
            }
            put_json(b, &v->as.items[i]);
        }
        MUST(cdl_buf_putc(b, object ? '}' : ']'));
        break;
    }
}

static char *to_json(const cdl_json *v, cdl_arena *a)
{
    cdl_buf b = { 0 };
    if (cdl_json_none(v))
        return NULL;
    put_json(&b, v);
    char *copy = cdl_arena_strndup(a, b.data, b.len);
    cdl_buf_free(&b);
    return copy;
}

static cuddle_chat_template *open_source(const cdl_json *source, const cdl_json *tokens)
{
    cuddle_chat_template *t;
    const cuddle_chat_tokens k = { .size = sizeof k,
        .bos_token = cdl_json_string(cdl_json_get(tokens, "bos_token"), NULL),
        .eos_token = cdl_json_string(cdl_json_get(tokens, "eos_token"), NULL) };
    MUST(cuddle_chat_template_open(&t, source->as.s, source->n, &k));
    assert_string_equal(cuddle_chat_template_source(t), source->as.s);
    return t;
}

/* Renders a case's messages and compares; its text stays in *out. */
static void check_case(const cuddle_chat_template *t, const cdl_json *c, char **out)
{
    cdl_arena a = { 0 };
    const cuddle_chat_request q = { .size = sizeof q, .messages_json = to_json(cdl_json_get(c, "messages"), &a),
        .tools_json = to_json(cdl_json_get(c, "tools"), &a),
        .add_generation_prompt = cdl_json_bool(cdl_json_get(c, "add_generation_prompt"), false) };
    size_t n;
    cuddle_status st = cuddle_chat_template_render(t, &q, out, &n);
    cdl_arena_free(&a);
    if (cdl_json_bool(cdl_json_get(c, "raises"), false)) {
        assert_int_equal(st, CUDDLE_ERR_ARG);
        return;
    }
    MUST(st);
    const cdl_json *text = cdl_json_get(c, "text");
    assert_string_equal(*out, text->as.s);
    assert_int_equal(n, text->n);
}

static void test_reference_templates(void **state)
{
    (void)state;
    cdl_arena a = { 0 };
    const cdl_json *all;
    MUST(cdl_json_load(&all, &a, refs_path("real/%s%s", "templates", ".json")));
    const cdl_json *cases = cdl_json_get(all, "cases");
    assert_true(cdl_json_len(cases) > 0);
    for (size_t i = 0; i < cdl_json_len(cases); i++) {
        const cdl_json *c = cdl_json_at(cases, i);
        cuddle_chat_template *t = open_source(cdl_json_get(c, "chat_template"), cdl_json_get(c, "vars"));
        char *text = NULL;
        check_case(t, c, &text);
        cuddle_chat_text_free(text);
        cuddle_chat_template_close(t);
    }
    cdl_arena_free(&a);
}

static void check_ids(const cuddle_tokenizer *t, const char *text, const cdl_json *ids)
{
    cuddle_encoding *e;
    cuddle_encoding_view v = { .size = sizeof v };
    const cuddle_encode_opts o = { .size = sizeof o, .no_special_tokens = true, .ids_only = true };
    MUST(cuddle_encoding_new(&e));
    MUST(cuddle_tokenizer_encode(t, e, text, strlen(text), &o));
    cuddle_encoding_look(e, &v);
    assert_int_equal(v.n, cdl_json_len(ids));
    for (size_t i = 0; i < v.n; i++)
        assert_int_equal(v.ids[i], cdl_json_int(cdl_json_at(ids, i), -1));
    cuddle_encoding_free(e);
}

/* The template is the file's own, when the file has one and is there. */
static void check_model(const char *name, const char *file, bool own)
{
    cdl_arena a = { 0 };
    const cdl_json *all;
    cuddle_model *m = NULL;
    const cuddle_tokenizer *tokenizer = NULL;
    const cuddle_chat_template *from_file = NULL;
    MUST(cdl_json_load(&all, &a, refs_path("real/%s/%s", name, "chat.json")));
    cuddle_chat_template *t = open_source(cdl_json_get(all, "chat_template"), all);
    if (access(file, F_OK) == 0) {
        MUST(cuddle_model_open(&m, file));
        MUST(cuddle_model_tokenizer(m, &tokenizer));
        cuddle_status st = cuddle_model_chat_template(m, &from_file);
        assert_int_equal(st, own ? CUDDLE_OK : CUDDLE_ERR_NOTFOUND);
        if (own)
            assert_string_equal(cuddle_chat_template_source(from_file), cuddle_chat_template_source(t));
    } else {
        print_message("%s is not here: ids are not compared\n", file);
    }
    const cdl_json *cases = cdl_json_get(all, "cases");
    assert_true(cdl_json_len(cases) > 0);
    for (size_t i = 0; i < cdl_json_len(cases); i++) {
        char *text = NULL;
        check_case(from_file ? from_file : t, cdl_json_at(cases, i), &text);
        if (tokenizer)
            check_ids(tokenizer, text, cdl_json_get(cdl_json_at(cases, i), "ids"));
        cuddle_chat_text_free(text);
    }
    cuddle_chat_template_close(t);
    cuddle_model_close(m);
    cdl_arena_free(&a);
}

static void test_reference_smollm2(void **state)
{
    (void)state;
    check_model("smol", "models/SmolLM2-135M-Instruct-Q4_1.gguf", true);
}

static void test_reference_gemma3(void **state)
{
    (void)state;
    check_model("gemma3", "models/gemma-3-270m-Q4_K_M.gguf", false);
}

/* ---- Requests ---- */

static cuddle_status render(const char *source, const cuddle_chat_request *q, char out[512])
{
    cuddle_chat_template *t;
    const cuddle_chat_tokens k = { .size = sizeof k, .bos_token = "<s>", .sep_token = "[SEP]" };
    char *text = NULL;
    size_t n;
    MUST(cuddle_chat_template_open(&t, source, strlen(source), &k));
    cuddle_status st = cuddle_chat_template_render(t, q, &text, &n);
    snprintf(out, 512, "%s", text ? text : "");
    cuddle_chat_text_free(text);
    cuddle_chat_template_close(t);
    return st;
}

static void check_text(const char *source, cuddle_chat_request q, const char *want)
{
    char out[512];
    q.size = sizeof q;
    MUST(render(source, &q, out));
    assert_string_equal(out, want);
}

static void check_error(const char *source, cuddle_chat_request q, cuddle_status want, const char *words)
{
    char out[512];
    q.size = q.size ? q.size : sizeof q;
    assert_int_equal(render(source, &q, out), want);
    if (!strstr(cuddle_errmsg(), words))
        fail_msg("\"%s\" should hold \"%s\"", cuddle_errmsg(), words);
}

static const cuddle_chat_message hello[] = { { "system", "Be brief." }, { "user", "Hi\"\n" } };

static void test_variables_as_transformers_passes_them(void **state)
{
    (void)state;
    const cuddle_chat_request q = { .messages = hello, .n_messages = 2 };
    check_text("{% for m in messages %}{{ m.role }}:{{ m['content'] | tojson }};{% endfor %}", q,
            "system:\"Be brief.\";user:\"Hi\\\"\\n\";");
    check_text("{{ tools is none }} {{ documents is none }} {{ tools is defined }} {{ add_generation_prompt }}", q,
            "True True True False");
    check_text("{{ bos_token }}{{ sep_token }}{{ eos_token is defined }}{{ enable_thinking is defined }}", q,
            "<s>[SEP]FalseFalse");
    check_text("{{ messages | length }}", (cuddle_chat_request){ 0 }, "0");
    check_text("", q, "");
    check_text("{{ strftime_now('%Y-%m-%d') }}", (cuddle_chat_request){ .now = 1753772096 }, "2025-07-29");
    check_text("{{ strftime_now('%Y') | int > 2024 }}", q, "True");
}

static void test_json_variables(void **state)
{
    (void)state;
    const cuddle_chat_request q = { .messages_json = "[{\"role\":\"user\",\"content\":null,\"n\":[1,2.5,true]}]",
        .tools_json = "[{\"name\":\"f\"}]", .documents_json = "[{\"text\":\"d\"}]",
        .extra_json = "{\"enable_thinking\":false,\"bos_token\":\"<own>\"}", .add_generation_prompt = true };
    check_text("{{ messages }} {{ tools[0].name }} {{ documents | length }} {{ enable_thinking }} {{ bos_token }} "
               "{{ add_generation_prompt }}", q,
            "[{'role': 'user', 'content': None, 'n': [1, 2.5, True]}] f 1 False <own> True");
}

static void test_bad_requests(void **state)
{
    (void)state;
    const cuddle_chat_message no_role[] = { { NULL, "x" } }, no_text[] = { { "user", NULL } };
    const cuddle_chat_message bad[] = { { "user", "\xff" } };
    check_error("", (cuddle_chat_request){ .messages_json = "[{]" }, CUDDLE_ERR_ARG, "messages_json");
    check_error("", (cuddle_chat_request){ .messages_json = "{}" }, CUDDLE_ERR_ARG, "messages_json must be an array");
    check_error("", (cuddle_chat_request){ .extra_json = "[]" }, CUDDLE_ERR_ARG, "extra_json must be an object");
    check_error("", (cuddle_chat_request){ .tools_json = "1" }, CUDDLE_ERR_ARG, "tools_json");
    check_error("", (cuddle_chat_request){ .documents_json = "" }, CUDDLE_ERR_ARG, "documents_json");
    check_error("", (cuddle_chat_request){ .messages = hello, .n_messages = 2, .messages_json = "[]" }, CUDDLE_ERR_ARG,
            "give one");
    check_error("", (cuddle_chat_request){ .messages = no_role, .n_messages = 1 }, CUDDLE_ERR_ARG,
            "message 0 has no role");
    check_error("", (cuddle_chat_request){ .messages = no_text, .n_messages = 1 }, CUDDLE_ERR_ARG, "no content");
    check_error("", (cuddle_chat_request){ .messages = bad, .n_messages = 1 }, CUDDLE_ERR_ARG, "UTF-8");
    check_error("{{ raise_exception('roles must alternate') }}", (cuddle_chat_request){ 0 }, CUDDLE_ERR_ARG,
            "roles must alternate");
    check_error("{{ 1 + messages }}", (cuddle_chat_request){ 0 }, CUDDLE_ERR_FORMAT, "chat template, line 1");
    char out[512];
    assert_int_equal(render("", &(cuddle_chat_request){ 0 }, out), CUDDLE_ERR_ARG);
    cuddle_chat_template *t;
    assert_int_equal(cuddle_chat_template_open(&t, "{% if %}", 8, NULL), CUDDLE_ERR_FORMAT);
    assert_null(t);
    assert_int_equal(cuddle_chat_template_open(&t, "", 0, &(cuddle_chat_tokens){ 0 }), CUDDLE_ERR_ARG);
}

static void test_structs_of_older_callers(void **state)
{
    (void)state;
    cuddle_chat_request q = { .size = offsetof(cuddle_chat_request, tools_json), .tools_json = "never read" };
    char out[512];
    MUST(render("{{ tools is none }}", &q, out));
    assert_string_equal(out, "True");
}

/* ---- Continuing ---- */

#define TURNS "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}" \
    "{% if add_generation_prompt %}<a>{% endif %}"
#define TRIMMED "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}<end>{% endfor %}"
#define PARTS "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}<end>{% endfor %}"

static void check_continued(const char *source, const char *messages, const char *want)
{
    check_text(source, (cuddle_chat_request){ .messages_json = messages, .continue_final_message = true }, want);
}

static void test_final_message_is_continued(void **state)
{
    (void)state;
    check_continued(TURNS, "[{\"role\":\"u\",\"content\":\"Hi\"},{\"role\":\"a\",\"content\":\"Sure: \"}]",
            "<u>Hi<end><a>Sure: ");
    check_continued(TRIMMED, "[{\"role\":\"u\",\"content\":\"Hi\"},{\"role\":\"a\",\"content\":\" Sure: \"}]",
            "<u>Hi<end><a>Sure:");
    check_continued(TURNS, "[{\"role\":\"a\",\"content\":\"\"}]", "<a>");
    check_continued(TURNS, "[{\"role\":\"a\",\"content\":\"same\"},{\"role\":\"a\",\"content\":\"same\"}]",
            "<a>same<end><a>same");
    check_continued(PARTS, "[{\"content\":[{\"text\":\"a\"},{\"text\":\"b \"},{\"image\":1}]}]", "ab ");
    const cuddle_chat_request q = { .messages = hello, .n_messages = 2, .continue_final_message = true };
    check_text(TURNS, q, "<system>Be brief.<end><user>Hi\"\n");
}

static void test_nothing_to_continue(void **state)
{
    (void)state;
    check_error(TURNS, (cuddle_chat_request){ .messages_json = "[]", .continue_final_message = true }, CUDDLE_ERR_ARG,
            "no text to continue");
    check_error(TURNS, (cuddle_chat_request){ .messages_json = "[{\"content\":null}]", .continue_final_message = true },
            CUDDLE_ERR_ARG, "no text to continue");
    check_error("x", (cuddle_chat_request){ .messages_json = "[{\"content\":\"a\"}]", .continue_final_message = true },
            CUDDLE_ERR_ARG, "does not show the last message");
    check_error(TURNS, (cuddle_chat_request){ .messages_json = "[{\"content\":\"a\"}]", .continue_final_message = true,
                .add_generation_prompt = true }, CUDDLE_ERR_ARG, "exclude each other");
}

/* ---- Where a model's template is ---- */

typedef struct {
    char folder[64];
    char files[8][128];
    size_t n;
} model_folder;

static void add_file(model_folder *f, const char *name, const char *text)
{
    char *path = f->files[f->n++];
    size_t n = strlen(f->folder);
    memcpy(path, f->folder, n);
    snprintf(path + n, sizeof f->files[0] - n, "/%s", name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void open_folder(model_folder *f)
{
    *f = (model_folder){ .folder = "/tmp/cuddle-chat-XXXXXX" };
    assert_non_null(mkdtemp(f->folder));
    add_file(f, "config.json", "{\"model_type\":\"llama\"}");
}

static void close_folder(model_folder *f)
{
    while (f->n)
        unlink(f->files[--f->n]);
    rmdir(f->folder);
}

static cuddle_status load_with(const model_folder *f, const char *tools, char out[512])
{
    cdl_checkpoint *c;
    cuddle_chat_template *t = NULL;
    const cuddle_chat_request q = { .size = sizeof q, .tools_json = tools };
    char *text = NULL;
    size_t n;
    *out = '\0';
    CDL_TRY(cdl_checkpoint_open(&c, f->folder, true));
    cuddle_status st = cdl_chat_load(&t, c, NULL);
    cdl_checkpoint_close(c);
    if (st == CUDDLE_OK)
        st = cuddle_chat_template_render(t, &q, &text, &n);
    if (st == CUDDLE_OK)
        snprintf(out, 512, "%s", text);
    cuddle_chat_text_free(text);
    cuddle_chat_template_close(t);
    return st;
}

static cuddle_status load(const model_folder *f, char out[512])
{
    return load_with(f, NULL, out);
}

static void test_template_is_found_in_a_folder(void **state)
{
    (void)state;
    model_folder f;
    char out[512];
    open_folder(&f);
    assert_int_equal(load(&f, out), CUDDLE_ERR_NOTFOUND);
    assert_non_null(strstr(cuddle_errmsg(), "has no chat template"));
    add_file(&f, "special_tokens_map.json", "{\"bos_token\":\"<old>\",\"unk_token\":\"<u>\"}");
    add_file(&f, "tokenizer_config.json", "{\"chat_template\":\"config {{ bos_token }}{{ eos_token }}{{ unk_token }}\","
            "\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"</s>\",\"pad_token\":null}");
    MUST(load(&f, out));
    assert_string_equal(out, "config <s></s><u>");
    add_file(&f, "chat_template.json", "{\"chat_template\":\"json {{ bos_token }}{{ pad_token is defined }}\"}");
    MUST(load(&f, out));
    assert_string_equal(out, "json <s>False");
    add_file(&f, "chat_template.jinja", "jinja {{ bos_token }}\n");
    MUST(load(&f, out));
    assert_string_equal(out, "jinja <s>");
    close_folder(&f);
}

static void test_template_named_default(void **state)
{
    (void)state;
    model_folder f;
    char out[512];
    open_folder(&f);
    add_file(&f, "tokenizer_config.json", "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"t\"},"
            "{\"name\":\"default\",\"template\":\"d\"}]}");
    MUST(load(&f, out));
    assert_string_equal(out, "d");
    MUST(load_with(&f, "[]", out));
    assert_string_equal(out, "t");
    f.n--;
    add_file(&f, "tokenizer_config.json", "{\"chat_template\":[{\"name\":\"rag\",\"template\":\"t\"}, 5]}");
    assert_int_equal(load(&f, out), CUDDLE_ERR_NOTFOUND);
    close_folder(&f);
}

static void test_template_for_tools_in_a_file(void **state)
{
    (void)state;
    model_folder f;
    char out[512], more[128];
    open_folder(&f);
    snprintf(more, sizeof more, "%s/additional_chat_templates", f.folder);
    assert_int_equal(mkdir(more, 0700), 0);
    add_file(&f, "chat_template.jinja", "plain");
    MUST(load_with(&f, "[{}]", out));
    assert_string_equal(out, "plain");
    add_file(&f, "additional_chat_templates/tool_use.jinja", "{{ tools | length }} {{ bos_token is defined }}");
    MUST(load(&f, out));
    assert_string_equal(out, "plain");
    MUST(load_with(&f, "[{}, {}]", out));
    assert_string_equal(out, "2 False");
    f.n--;
    add_file(&f, "additional_chat_templates/tool_use.jinja", "{% if %}");
    assert_int_equal(load(&f, out), CUDDLE_ERR_FORMAT);
    assert_non_null(strstr(cuddle_errmsg(), "chat template tool_use, line 1"));
    unlink(f.files[--f.n]);
    rmdir(more);
    close_folder(&f);
}

static void test_bad_files_are_named(void **state)
{
    (void)state;
    model_folder f;
    char out[512];
    open_folder(&f);
    add_file(&f, "tokenizer_config.json", "{\"chat_template\":\"a\\n{% if %}\"}");
    assert_int_equal(load(&f, out), CUDDLE_ERR_FORMAT);
    assert_non_null(strstr(cuddle_errmsg(), "tokenizer_config.json: chat template, line 2"));
    add_file(&f, "chat_template.jinja", "{% nosuch %}");
    assert_int_equal(load(&f, out), CUDDLE_ERR_UNSUPPORTED);
    assert_non_null(strstr(cuddle_errmsg(), "chat_template.jinja: chat template, line 1"));
    add_file(&f, "special_tokens_map.json", "{");
    assert_int_equal(load(&f, out), CUDDLE_ERR_FORMAT);
    assert_non_null(strstr(cuddle_errmsg(), "special_tokens_map.json"));
    close_folder(&f);
}

/* ---- Threads, memory ---- */

static void *render_often(void *user)
{
    const cuddle_chat_request q = { .size = sizeof q, .messages = hello, .n_messages = 2,
        .add_generation_prompt = true };
    for (int i = 0; i < 200; i++) {
        char *text = NULL;
        size_t n;
        if (cuddle_chat_template_render(user, &q, &text, &n) != CUDDLE_OK
            || strcmp(text, "<system>Be brief.<end><user>Hi\"\n<end><a>") != 0)
            return user;
        cuddle_chat_text_free(text);
    }
    return NULL;
}

static void test_one_template_on_many_threads(void **state)
{
    (void)state;
    cuddle_chat_template *t;
    pthread_t threads[4];
    MUST(cuddle_chat_template_open(&t, TURNS, strlen(TURNS), NULL));
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, render_often, t), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    cuddle_chat_template_close(t);
}

static cuddle_status whole_life(void *user)
{
    const cuddle_chat_tokens k = { .size = sizeof k, .bos_token = "<s>" };
    const cuddle_chat_request q = { .size = sizeof q, .messages_json = user, .tools_json = "[{}]",
        .extra_json = "{\"x\":1}", .continue_final_message = true };
    cuddle_chat_template *t;
    char *text = NULL;
    size_t n;
    CDL_TRY(cuddle_chat_template_open(&t, TURNS, strlen(TURNS), &k));
    cuddle_status st = cuddle_chat_template_render(t, &q, &text, &n);
    cuddle_chat_text_free(text);
    cuddle_chat_template_close(t);
    return st;
}

static cuddle_status load_life(void *user)
{
    char out[512];
    return load(user, out);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    char messages[] = "[{\"role\":\"u\",\"content\":\"Hi\"}]";
    model_folder f;
    assert_true(torture(whole_life, messages, false, 1) > 5);
    torture(whole_life, messages, true, 1);
    open_folder(&f);
    add_file(&f, "tokenizer_config.json", "{\"chat_template\":\"{{ bos_token }}\",\"bos_token\":\"<s>\"}");
    assert_true(torture(load_life, &f, false, 1) > 5);
    close_folder(&f);
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_templates),
        cmocka_unit_test(test_reference_smollm2),
        cmocka_unit_test(test_reference_gemma3),
        cmocka_unit_test(test_variables_as_transformers_passes_them),
        cmocka_unit_test(test_json_variables),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_structs_of_older_callers),
        cmocka_unit_test(test_final_message_is_continued),
        cmocka_unit_test(test_nothing_to_continue),
        cmocka_unit_test(test_template_is_found_in_a_folder),
        cmocka_unit_test(test_template_named_default),
        cmocka_unit_test(test_template_for_tools_in_a_file),
        cmocka_unit_test(test_bad_files_are_named),
        cmocka_unit_test(test_one_template_on_many_threads),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
