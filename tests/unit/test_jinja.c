/* The Jinja interpreter against Jinja's own output (tests/golden/templates.json), its errors and its limits. */
#include "torture.h"

#include <stdlib.h>

#include "base/map.h"
#include "base/status.h"
#include "refs.h"
#include "token/jinja.h"

#define GOLDEN "tests/golden/"

/* ---- Against Jinja ---- */

typedef struct {
    cdl_arena arena;
    const cdl_json *all;
} golden;

static void open_golden(golden *g)
{
    const char *path = getenv("CUDDLE_TEMPLATES");
    *g = (golden){ 0 };
    MUST(cdl_json_load(&g->all, &g->arena, path ? path : GOLDEN "templates.json"));
}

static cdl_json number(bool b)
{
    return (cdl_json){ .type = CDL_JSON_BOOL, .as.b = b };
}

static cuddle_status render_source(const char *source, size_t n, const cdl_jinja_var *vars, size_t n_vars, int64_t now,
        cdl_buf *out)
{
    cdl_jinja *t;
    CDL_TRY(cdl_jinja_parse(&t, source, n, "template"));
    cuddle_status st = cdl_jinja_render(t, vars, n_vars, now, NULL, out);
    cdl_jinja_free(t);
    return st;
}

static size_t set_all(cdl_jinja_var *vars, size_t n, const cdl_json *object)
{
    for (size_t i = 0; i < cdl_json_len(object); i++)
        vars[n++] = (cdl_jinja_var){ object->as.items[i].key, &object->as.items[i] };
    return n;
}

static cuddle_status render_chat(const cdl_json *all, const cdl_json *c, cdl_buf *out)
{
    static const cdl_json null = { .type = CDL_JSON_NULL };
    cdl_json prompt = number(cdl_json_bool(cdl_json_get(c, "prompt"), false));
    const cdl_json bos = { .type = CDL_JSON_STRING, .n = 3, .as.s = "<s>" };
    const cdl_json eos = { .type = CDL_JSON_STRING, .n = 4, .as.s = "</s>" };
    const cdl_json *messages = cdl_json_get(cdl_json_get(all, "conversations"),
            cdl_json_string(cdl_json_get(c, "conversation"), ""));
    bool tools = cdl_json_bool(cdl_json_get(c, "tools"), false);
    cdl_jinja_var vars[32] = { { "messages", messages }, { "tools", tools ? cdl_json_get(all, "tools") : &null },
        { "documents", &null }, { "add_generation_prompt", &prompt }, { "bos_token", &bos }, { "eos_token", &eos } };
    char path[512], *source;
    size_t n = set_all(vars, 6, cdl_json_get(c, "vars")), len;
    snprintf(path, sizeof path, GOLDEN "jinja/%s", cdl_json_string(cdl_json_get(c, "file"), ""));
    MUST(cdl_map_read(&source, &len, path, 1 << 20));
    cuddle_status st = render_source(source, len, vars, n, cdl_json_int(cdl_json_get(all, "now"), 0), out);
    cdl_mem_free(source);
    return st;
}

static cuddle_status render_line(const cdl_json *all, const cdl_json *c, cdl_buf *out)
{
    const cdl_json *source = cdl_json_get(c, "template");
    cdl_jinja_var vars[32];
    size_t n = cdl_json_bool(cdl_json_get(c, "data"), false) ? set_all(vars, 0, cdl_json_get(all, "data")) : 0;
    return render_source(source->as.s, source->n, vars, n, cdl_json_int(cdl_json_get(all, "now"), 0), out);
}

/* The message of raise_exception must come through. */
static bool is_right_error(const char *error, cuddle_status st)
{
    static const char raised[] = "TemplateError: ";
    if (strncmp(error, raised, sizeof raised - 1) != 0)
        return st == CUDDLE_ERR_FORMAT || st == CUDDLE_ERR_UNSUPPORTED || st == CUDDLE_ERR_FULL;
    return st == CUDDLE_ERR_ARG && strstr(cuddle_errmsg(), error + sizeof raised - 1);
}

static bool check_case(const cdl_json *all, const cdl_json *c)
{
    const cdl_json *text = cdl_json_get(c, "text");
    const char *error = cdl_json_string(cdl_json_get(c, "error"), NULL);
    cdl_buf b = { 0 };
    cuddle_status st = cdl_json_get(c, "file") ? render_chat(all, c, &b) : render_line(all, c, &b);
    bool ok = error ? is_right_error(error, st)
                    : st == CUDDLE_OK && b.len == text->n && (!b.len || memcmp(b.data, text->as.s, b.len) == 0);
    if (!ok)
        fprintf(stderr, "%s\n  template %s\n  want %s%s\n  got  %s\n", cdl_json_string(cdl_json_get(c, "name"), ""),
                cdl_json_string(cdl_json_get(c, "template"), "(file)"), error ? "error " : "",
                error ? error : text->as.s, st == CUDDLE_OK ? (b.data ? b.data : "") : cuddle_errmsg());
    cdl_buf_free(&b);
    return ok;
}

static void check_cases(bool files)
{
    golden g;
    size_t wrong = 0, n = 0;
    open_golden(&g);
    const cdl_json *cases = cdl_json_get(g.all, "cases");
    for (size_t i = 0; i < cdl_json_len(cases); i++) {
        if ((cdl_json_get(cdl_json_at(cases, i), "file") != NULL) != files)
            continue;
        n++;
        wrong += !check_case(g.all, cdl_json_at(cases, i));
    }
    cdl_arena_free(&g.arena);
    if (wrong)
        fail_msg("%zu of %zu templates differ from Jinja", wrong, n);
    assert_true(n > 100 || getenv("CUDDLE_TEMPLATES"));
}

static void test_lines_like_jinja(void **state)
{
    (void)state;
    check_cases(false);
}

static void test_chat_templates_like_jinja(void **state)
{
    (void)state;
    check_cases(true);
}

/* ---- Errors ---- */

static cuddle_status render(const char *source, const cdl_jinja_limits *limits, cdl_buf *out)
{
    cdl_jinja *t;
    CDL_TRY(cdl_jinja_parse(&t, source, strlen(source), "chat template"));
    cuddle_status st = cdl_jinja_render(t, NULL, 0, 0, limits, out);
    cdl_jinja_free(t);
    return st;
}

static void check_fails(const char *source, const cdl_jinja_limits *limits, cuddle_status want, const char *words)
{
    cdl_buf b = { 0 };
    cuddle_status st = render(source, limits, &b);
    cdl_buf_free(&b);
    if (st != want || !strstr(cuddle_errmsg(), words))
        fail_msg("%.60s: status %s, \"%s\", but %s and \"%s\" are wanted", source, cuddle_status_name(st),
                cuddle_errmsg(), cuddle_status_name(want), words);
}

static void test_errors_name_template_and_line(void **state)
{
    (void)state;
    check_fails("a\n{{ 1 +\n }}", NULL, CUDDLE_ERR_FORMAT, "chat template, line 3:");
    check_fails("a\n\n{% nosuch %}", NULL, CUDDLE_ERR_UNSUPPORTED, "line 3: unknown tag 'nosuch'");
    check_fails("{% if true %}\n{{ x.y }}{% endif %}", NULL, CUDDLE_ERR_FORMAT, "line 2: 'x' is undefined");
    check_fails("{% if true %}", NULL, CUDDLE_ERR_FORMAT, "endif");
    check_fails("{{ 'a' | nosuch }}", NULL, CUDDLE_ERR_UNSUPPORTED, "the filter 'nosuch' is not known");
    check_fails("{{ raise_exception('roles\nmust alternate') }}", NULL, CUDDLE_ERR_ARG, "must alternate");
    check_fails("{{ 9223372036854775807 + 1 }}", NULL, CUDDLE_ERR_FULL, "64 bits");
    check_fails("{% include 'a' %}", NULL, CUDDLE_ERR_UNSUPPORTED, "include");
    check_fails("\xff", NULL, CUDDLE_ERR_FORMAT, "UTF-8");
}

/* ---- Limits ---- */

static char *repeated(const char *head, const char *part, size_t times, const char *tail)
{
    size_t n = strlen(part);
    char *s = malloc(strlen(head) + n * times + strlen(tail) + 1), *p = s + sprintf(s, "%s", head);
    for (size_t i = 0; i < times; i++, p += n)
        memcpy(p, part, n);
    strcpy(p, tail);
    return s;
}

static void check_deep(const char *head, const char *part, const char *tail)
{
    char *s = repeated(head, part, 100000, tail);
    check_fails(s, NULL, CUDDLE_ERR_FULL, "deep");
    free(s);
}

static void test_depth_is_limited(void **state)
{
    (void)state;
    check_deep("{{ ", "(", "");
    check_deep("{{ ", "-", "1 }}");
    check_deep("{{ ", "not ", "1 }}");
    check_deep("", "{% if 1 %}", "");
    check_deep("{{ ", "1 if 1 else ", "1 }}");
    check_fails("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", NULL, CUDDLE_ERR_FULL, "deep");
    check_fails("{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
            NULL, CUDDLE_ERR_FULL, "deep");
    check_fails("{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}"
                "{{ ns.x | tojson }}", NULL, CUDDLE_ERR_FULL, "deep");
}

static void test_long_chains_are_no_depth(void **state)
{
    (void)state;
    static const char *const parts[] = { "{{ 1 }}", "{% if 0 %}{% elif 1 %}{% endif %}", "{# c #}" };
    for (int i = 0; i < 3; i++) {
        char *s = repeated("", parts[i], 20000, "");
        cdl_buf b = { 0 };
        MUST(render(s, NULL, &b));
        cdl_buf_free(&b);
        free(s);
    }
    char *s = repeated("{{ 1", " and 1", 20000, " }}");
    cdl_buf b = { 0 };
    MUST(render(s, NULL, &b));
    assert_string_equal(b.data, "1");
    cdl_buf_free(&b);
    free(s);
}

static void test_long_sums_fail_cleanly(void **state)
{
    (void)state;
    static const char *const parts[] = { " + 1", " ~ 1", ".a", "[0]", " | d", " is defined", "()" };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char *s = repeated("{{ 1", parts[i], 100000, " }}");
        cdl_buf b = { 0 };
        cuddle_status st = render(s, NULL, &b);
        assert_true(st == CUDDLE_OK || st == CUDDLE_ERR_FULL || st == CUDDLE_ERR_FORMAT);
        cdl_buf_free(&b);
        free(s);
    }
}

static void test_steps_are_limited(void **state)
{
    (void)state;
    const cdl_jinja_limits few = { .steps = 10000 };
    static const char loops[] = "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}"
                                "{% endfor %}{% endfor %}{% endfor %}";
    check_fails(loops, &few, CUDDLE_ERR_FULL, "too many steps");
    check_fails(loops, NULL, CUDDLE_ERR_FULL, "too many steps");
    check_fails("{% set s = 'x' * 1000000 %}{% for a in range(100000) %}{% set t = s | upper %}{% endfor %}", NULL,
            CUDDLE_ERR_FULL, "");
    check_fails("{% set s = 'ab' * 1000000 %}{% for a in range(100000) %}{{ 'ac' in s }}{% endfor %}", NULL,
            CUDDLE_ERR_FULL, "too many steps");
    check_fails("{{ [1] | slice(1000000000000) | list }}", NULL, CUDDLE_ERR_FULL, "");
    check_fails("{{ [1] | batch(1000000000000, 'x') | list }}", NULL, CUDDLE_ERR_FULL, "");
}

static void test_output_is_limited(void **state)
{
    (void)state;
    const cdl_jinja_limits small = { .output_max = 1000 };
    check_fails("{% for a in range(1000) %}abc{% endfor %}", &small, CUDDLE_ERR_FULL, "1000 bytes");
    check_fails("{{ 'x' * 100000000 }}", NULL, CUDDLE_ERR_FULL, "too large");
    check_fails("{{ '%1000000000d' % 5 }}", NULL, CUDDLE_ERR_FULL, "too large");
    check_fails("{{ '{:99999999999999999999}'.format(5) }}", NULL, CUDDLE_ERR_FULL, "too large");
    check_fails("{{ '%.2000f' % 5 }}", NULL, CUDDLE_ERR_FULL, "too large");
    check_fails("{{ 'x'.center(1000000000) }}", NULL, CUDDLE_ERR_FULL, "larger");
    check_fails("{{ 'x' | indent(1000000000, true) }}", NULL, CUDDLE_ERR_FULL, "larger");
    check_fails("{{ [1] | tojson(indent=1000000000) }}", NULL, CUDDLE_ERR_FULL, "larger");
    check_fails("{{ range(100000000000) }}", NULL, CUDDLE_ERR_FULL, "range");
    cdl_buf b = { 0 };
    MUST(cdl_buf_puts(&b, "before"));
    MUST(render("{% for a in range(1000) %}a{% endfor %}", &small, &b)); /* exactly the limit */
    assert_int_equal(b.len, 1006);
    assert_int_equal(b.max, 0);
    cdl_buf_free(&b);
}

static void test_memory_is_limited(void **state)
{
    (void)state;
    const cdl_jinja_limits small = { .memory_max = 1 << 20 };
    check_fails("{% set ns = namespace(x='a') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", NULL,
            CUDDLE_ERR_FULL, "");
    check_fails("{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
            &small, CUDDLE_ERR_FULL, "1 MiB");
    check_fails("{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
                "{{ ns.x | string }}", NULL, CUDDLE_ERR_FULL, "");
}

/* ---- Data ---- */

static void test_data_may_hold_nul_and_bad_utf8(void **state)
{
    (void)state;
    cdl_buf b = { 0 };
    cdl_jinja *t;
    const cdl_json v = { .type = CDL_JSON_STRING, .n = 5, .as.s = "a\0\xff\xc3z" };
    const cdl_jinja_var vars[] = { { "v", &v } };
    static const char source[] = "{{ v }}{{ v | length }}{{ v | upper | tojson }}{{ v[::-1] | length }}"
                                 "{{ v | list | length }}"
                                 "{{ v | title }}{{ v.split('z') | length }}{{ [v] }}";
    MUST(cdl_jinja_parse(&t, source, sizeof source - 1, "t"));
    MUST(cdl_jinja_render(t, vars, 1, 0, NULL, &b));
    assert_memory_equal(b.data, "a\0\xff\xc3z", 5);
    cdl_buf_free(&b);
    cdl_jinja_free(t);
}

/* ---- Without memory ---- */

static const char everything[] =
    "{% macro m(a, b=1) %}{{ a }}{{ b }}{{ caller() if caller is defined }}{{ varargs }}{{ kwargs }}{% endmacro %}"
    "{% set ns = namespace(x=[]) %}{% for i in range(9) if i is odd %}{% set ns.x = ns.x + [i ~ '\\n'] %}{% endfor %}"
    "{{ m(1, 2, 3, c=4) }}{% call m(5) %}in{% endcall %}{{ ns.x | tojson(indent=2, sort_keys=true) }}"
    "{{ {'b': 1, 'a': [1.5, none]} | dictsort | tojson }}{{ ['b', 'a'] | sort | map('upper') | join(', ') }}"
    "{{ '%s %05d' % ('a', 3) }}{{ '{:>8} {x!r}'.format('b', x='y') }}{{ 'a,b'.split(',')[::-1] }}"
    "{{ 'aXb' | replace('X', '-') }}"
    "{% filter upper %}{{ 'abc' | title | center(20) | trim }}{% endfilter %}{% set t %}x{{ 1 }}{% endset %}{{ t }}"
    "{{ [{'a': 1}, {'a': 2}] | groupby('a') }}{{ [{'a': 1}] | selectattr('a', 'gt', 0) | list }}{{ 'a\\nb' | indent }}"
    "{{ [3, 1] | unique | list }}{{ strftime_now('%Y') }}{{ dict(a=1).items() | list }}"
    "{{ 'abcdef' | truncate(4, true, '', 0) }}";

static cuddle_status render_everything(void *user)
{
    cdl_buf b = { 0 };
    (void)user;
    cuddle_status st = render(everything, NULL, &b);
    cdl_buf_free(&b);
    return st;
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    assert_true(torture(render_everything, NULL, false, 1) > 20);
    torture(render_everything, NULL, true, 1);
}

int main(void)
{
    setenv("TZ", "UTC", 1); /* as the golden texts */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_like_jinja),
        cmocka_unit_test(test_chat_templates_like_jinja),
        cmocka_unit_test(test_errors_name_template_and_line),
        cmocka_unit_test(test_depth_is_limited),
        cmocka_unit_test(test_long_chains_are_no_depth),
        cmocka_unit_test(test_long_sums_fail_cleanly),
        cmocka_unit_test(test_steps_are_limited),
        cmocka_unit_test(test_output_is_limited),
        cmocka_unit_test(test_memory_is_limited),
        cmocka_unit_test(test_data_may_hold_nul_and_bad_utf8),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
