/* cmd_run.c - `cuddle run`: a prompt in, the model's answer out, as it is generated. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "cuddle_generate.h"
#include "sampling_options.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"

enum { STDIN_MAX = 64 << 20 };

static int64_t n_max, context, threads, n_logprobs;
static const char *system_text, *template_file, *id_text, *device, *state_dtype, *cpu;
static bool raw, json, f32, fast, ignore_eos, verbose;
static cli_list stops;

static const cli_option options[] = {
    { "n-predict", 'n', CLI_INT, &n_max, "N",
      "most tokens to generate (default: until the model ends)", 1, INT32_MAX },
    { "raw", 0, CLI_FLAG, &raw, NULL, "continue the prompt itself, without the chat template", 0, 0 },
    { "system", 's', CLI_STRING, &system_text, "TEXT", "the system message", 0, 0 },
    { "chat-template", 0, CLI_STRING, &template_file, "FILE", "the chat template, instead of the model's own", 0, 0 },
    { "stop", 0, CLI_LIST, &stops, "STR", "end before this text (repeatable)", 0, 0 },
    { "ignore-eos", 0, CLI_FLAG, &ignore_eos, NULL, "go on behind tokens that end the text", 0, 0 },
    { "prompt-ids", 0, CLI_STRING, &id_text, "1,2,3", "token ids instead of a prompt", 0, 0 },
    { "logprobs", 0, CLI_INT, &n_logprobs, "K",
      "log probabilities, of the K likeliest too, a line a token", 1, 64 },
    { "json", 0, CLI_FLAG, &json, NULL, "print one JSON object at the end", 0, 0 },
    { "verbose", 'v', CLI_FLAG, &verbose, NULL, "say on stderr what runs, the seed and the speed", 0, 0 },
    SAMPLING_OPTIONS,
    { "machine", 0, CLI_HEADING, NULL, NULL, "machine", 0, 0 },
    { "context", 'c', CLI_INT, &context, "N",
      "tokens of prompt and answer (default: the model's limit, at most 8192)", 1, 1 << 24 },
    { "threads", 't', CLI_INT, &threads, "N", "threads (default: all processors)", 1, 1024 },
    { "device", 'd', CLI_STRING, &device, "D", "cpu, cuda, cuda:N (default: a GPU, else cpu)", 0, 0 },
    { "fast", 0, CLI_FLAG, &fast, NULL, "cuda: long prompts by cuBLASLt; roundings depend on what is batched", 0, 0 },
    { "state-dtype", 0, CLI_STRING, &state_dtype, "T",
      "type of keys and values: f16 or f32; on cuda f16, bf16, i8 or f8e4m3", 0, 0 },
    { "cpu", 0, CLI_STRING, &cpu, "SET",
      "kernels: ref, avx2, avx512, amx (default: the best here)", 0, 0 },
    { "f32-activations", 0, CLI_FLAG, &f32, NULL, "the checking path: f32 activations and state", 0, 0 },
};

typedef struct {
    cuddle_model *model;
    const cuddle_tokenizer *tokenizer; /* NULL: the model has none; then ids come out */
    cuddle_engine *engine;
    cuddle_sampling sampling;
    int32_t *prompt;           /* [n_prompt] */
    size_t n_prompt;
    char last;                 /* byte on stdout */
    cdl_buf text, ids, logprobs; /* for --json */
    cuddle_status written;     /* of these buffers */
    double load_ms;
    cuddle_generate_result result;
} session;

/* ---- The prompt ---- */

/* "1,2,3" or "1 2 3". */
static bool read_ids(session *s)
{
    s->prompt = cdl_mem_array(strlen(id_text) / 2 + 1, sizeof *s->prompt);
    if (!s->prompt) {
        cli_fail("out of memory");
        return false;
    }
    for (const char *p = id_text; ; ) {
        char *end;
        errno = 0;
        long v = strtol(p, &end, 10);
        if (end == p || errno || v < 0 || v > INT32_MAX)
            break;
        s->prompt[s->n_prompt++] = (int32_t)v;
        p = end + strspn(end, " ");
        if (!*p)
            return true;
        if (*p != ',' && p == end)
            break;
        p += *p == ',';
    }
    cli_fail("--prompt-ids takes token ids like 1,2,3, not '%s'", id_text);
    return false;
}

static cuddle_status encode(session *s, const char *text, size_t n, bool special)
{
    cuddle_encoding *e;
    CDL_TRY(cuddle_encoding_new(&e));
    cuddle_encode_opts o = { .size = sizeof o, .no_special_tokens = !special, .ids_only = true,
        .no_truncation = true, .no_padding = true };
    cuddle_status st = cuddle_tokenizer_encode(s->tokenizer, e, text, n, &o);
    if (st == CUDDLE_OK) {
        cuddle_encoding_view view = { .size = sizeof view };
        cuddle_encoding_look(e, &view);
        s->prompt = cdl_mem_array(view.n + 1, sizeof *s->prompt);
        if (!s->prompt)
            st = cdl_status_nomem("the prompt");
        else if (view.n)
            memcpy(s->prompt, view.ids, view.n * sizeof *s->prompt);
        s->n_prompt = view.n;
    }
    cuddle_encoding_free(e);
    return st;
}

static cuddle_status encode_chat(session *s, const cuddle_chat_template *t, const char *prompt)
{
    cuddle_chat_message messages[2];
    size_t n = 0;
    if (system_text)
        messages[n++] = (cuddle_chat_message){ "system", system_text };
    messages[n++] = (cuddle_chat_message){ "user", prompt };
    cuddle_chat_request r = { .size = sizeof r, .messages = messages, .n_messages = n, .add_generation_prompt = true };
    char *text;
    size_t len;
    CDL_TRY(cuddle_chat_template_render(t, &r, &text, &len));
    cuddle_status st = encode(s, text, len, false);
    cuddle_chat_text_free(text);
    return st;
}

static cuddle_status encode_prompt(session *s, const char *prompt, size_t n)
{
    CDL_TRY(cuddle_model_tokenizer(s->model, &s->tokenizer));
    const cuddle_chat_template *t = NULL;
    if (!raw) {
        if (template_file)
            CDL_TRY(cuddle_model_use_chat_template(s->model, template_file));
        cuddle_status st = cuddle_model_chat_template(s->model, &t);
        if (st != CUDDLE_OK && (st != CUDDLE_ERR_NOTFOUND || system_text))
            return st;
        if (st != CUDDLE_OK)
            cli_note("the model has no chat template: the prompt is continued as it is");
    }
    if (t && (!n || strlen(prompt) != n))
        return cdl_status_fail(CUDDLE_ERR_ARG, n ? "the prompt holds a NUL byte" : "the prompt is empty");
    CDL_TRY(t ? encode_chat(s, t, prompt) : encode(s, prompt, n, true));
    return s->n_prompt ? CUDDLE_OK : cdl_status_fail(CUDDLE_ERR_ARG, "the prompt is empty");
}

/* The text on stdin, less the line's end that echo puts behind it. */
static char *read_prompt(size_t *n)
{
    char *text = cli_read_stdin(n, STDIN_MAX);
    if (text && *n && text[*n - 1] == '\n')
        text[--*n] = '\0';
    if (text && *n && text[*n - 1] == '\r')
        text[--*n] = '\0';
    return text;
}

static int take_prompt(session *s, const char *argument)
{
    if (id_text) {
        if (cuddle_model_tokenizer(s->model, &s->tokenizer) == CUDDLE_OK)
            return CLI_OK;
        s->tokenizer = NULL;
        if (n_logprobs || stops.n)
            return cli_fail_status();
        cli_note("the model has no tokenizer: token ids are printed");
        return CLI_OK;
    }
    size_t n = argument ? strlen(argument) : 0;
    char *text = argument ? NULL : read_prompt(&n);
    if (!argument && !text)
        return CLI_FAILED;
    cuddle_status st = encode_prompt(s, argument ? argument : text, n);
    free(text);
    return st == CUDDLE_OK ? CLI_OK : cli_fail_status();
}

/* ---- What comes out ---- */

static cuddle_status put_token(session *s, cdl_buf *b, int32_t id)
{
    char *text = NULL;
    size_t n = 0;
    if (s->tokenizer)
        CDL_TRY(cuddle_tokenizer_decode(s->tokenizer, &id, 1, false, &text, &n));
    cuddle_status st = cdl_json_put_string(b, text ? text : "", n);
    cuddle_tokenizer_text_free(text);
    return st;
}

static cuddle_status put_logprob(session *s, cdl_buf *b, int32_t id, float logprob)
{
    CDL_TRY(cdl_buf_printf(b, "{\"id\":%d,\"token\":", id));
    CDL_TRY(put_token(s, b, id));
    CDL_TRY(cdl_buf_puts(b, ",\"logprob\":"));
    return cdl_json_put_double(b, logprob);
}

/* {"id", "token", "logprob", "top": [{"id", "token", "logprob"}]} */
static cuddle_status put_logprobs(session *s, const cuddle_generated *g)
{
    cdl_buf *b = &s->logprobs;
    CDL_TRY(cdl_buf_puts(b, g->index ? "," : ""));
    CDL_TRY(put_logprob(s, b, g->token, g->logprob));
    CDL_TRY(cdl_buf_puts(b, ",\"top\":["));
    for (int64_t i = 0; i < n_logprobs && g->top[i].token >= 0; i++) {
        CDL_TRY(cdl_buf_puts(b, i ? "," : ""));
        CDL_TRY(put_logprob(s, b, g->top[i].token, g->top[i].logprob));
        CDL_TRY(cdl_buf_putc(b, '}'));
    }
    return cdl_buf_puts(b, "]}");
}

/* A line: log probability, token, and the likeliest with theirs. */
static cuddle_status print_logprobs(session *s, const cuddle_generated *g)
{
    cdl_buf *b = &s->logprobs;
    cdl_buf_clear(b);
    CDL_TRY(cdl_buf_printf(b, "%.4f\t", g->logprob));
    CDL_TRY(put_token(s, b, g->token));
    for (int64_t i = 0; i < n_logprobs && g->top[i].token >= 0; i++) {
        CDL_TRY(cdl_buf_printf(b, "\t%.4f ", g->top[i].logprob));
        CDL_TRY(put_token(s, b, g->top[i].token));
    }
    CDL_TRY(cdl_buf_putc(b, '\n'));
    fwrite(b->data, 1, b->len, stdout);
    return CUDDLE_OK;
}

static cuddle_status keep_token(session *s, const cuddle_generated *g)
{
    CDL_TRY(cdl_buf_printf(&s->ids, "%s%d", g->index ? "," : "", g->token));
    return n_logprobs ? put_logprobs(s, g) : CUDDLE_OK;
}

/* Whether to go on. */
static bool wants_more(const session *s)
{
    return !cli_interrupted() && !ferror(stdout) && s->written == CUDDLE_OK;
}

static bool on_token(void *user, const cuddle_generated *g)
{
    session *s = user;
    if (json)
        s->written = keep_token(s, g);
    else if (n_logprobs)
        s->written = print_logprobs(s, g);
    else if (!s->tokenizer)
        printf("%s%d", g->index ? " " : "", g->token);
    if (!json && (n_logprobs || !s->tokenizer))
        fflush(stdout);
    return wants_more(s);
}

static bool on_text(void *user, const char *text, size_t n)
{
    session *s = user;
    if (json) {
        s->written = cdl_buf_append(&s->text, text, n);
    } else if (!n_logprobs) {
        fwrite(text, 1, n, stdout);
        fflush(stdout);
        s->last = text[n - 1];
    }
    return wants_more(s);
}

/* The bar goes before text comes. */
static bool on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    bool more = cli_progress(user, what, done, total);
    if (done == total)
        cli_progress_end();
    return more;
}

static const char *finish_reason(const session *s)
{
    static const char *const names[] = { "stop", "length", "interrupted" };
    return names[s->result.finish];
}

static double per_second(double n, double ms)
{
    return ms > 0 ? n / ms * 1e3 : 0;
}

static double prefill_speed(const session *s)
{
    return per_second((double)s->result.prompt_tokens, s->result.prefill_ms);
}

/* Every token but the last was fed again; the last one too when another ended the text. */
static double decode_speed(const session *s)
{
    double steps = (double)s->result.tokens - (s->result.end_token < 0);
    return steps > 0 ? per_second(steps, s->result.decode_ms) : 0;
}

static cuddle_status put_timings(const session *s, cdl_buf *b)
{
    const struct {
        const char *name;
        double v;
    } all[] = { { "load_ms", s->load_ms }, { "prefill_ms", s->result.prefill_ms }, { "decode_ms", s->result.decode_ms },
        { "prefill_tokens_per_second", prefill_speed(s) }, { "decode_tokens_per_second", decode_speed(s) } };
    CDL_TRY(cdl_buf_puts(b, ",\"timings\":{"));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        CDL_TRY(cdl_buf_printf(b, "%s\"%s\":%.3f", i ? "," : "", all[i].name, all[i].v));
    return cdl_buf_puts(b, "}");
}

static cuddle_status put_json(session *s, cdl_buf *b)
{
    CDL_TRY(cdl_buf_puts(b, "{\"text\":"));
    CDL_TRY(s->tokenizer ? cdl_json_put_string(b, s->text.data, s->text.len) : cdl_buf_puts(b, "null"));
    CDL_TRY(cdl_buf_puts(b, ",\"prompt_ids\":["));
    for (size_t i = 0; i < s->n_prompt; i++)
        CDL_TRY(cdl_buf_printf(b, "%s%d", i ? "," : "", s->prompt[i]));
    CDL_TRY(cdl_buf_printf(b, "],\"ids\":[%s],\"finish_reason\":\"%s\",\"stop\":", s->ids.data ? s->ids.data : "",
            finish_reason(s)));
    const char *stop = s->result.stop >= 0 ? stops.items[s->result.stop] : NULL;
    CDL_TRY(stop ? cdl_json_put_string(b, stop, strlen(stop)) : cdl_buf_puts(b, "null"));
    if (n_logprobs)
        CDL_TRY(cdl_buf_printf(b, ",\"logprobs\":[%s]", s->logprobs.data ? s->logprobs.data : ""));
    else
        CDL_TRY(cdl_buf_puts(b, ",\"logprobs\":null"));
    CDL_TRY(cdl_buf_printf(b, ",\"seed\":%llu", (unsigned long long)s->sampling.seed));
    CDL_TRY(put_timings(s, b));
    return cdl_buf_puts(b, "}\n");
}

static cuddle_status finish_output(session *s)
{
    if (!json) {
        if (!n_logprobs && s->result.tokens && s->last != '\n')
            putchar('\n');
        return CUDDLE_OK;
    }
    cdl_buf b = { 0 };
    cuddle_status st = put_json(s, &b);
    if (st == CUDDLE_OK)
        fwrite(b.data, 1, b.len, stdout);
    cdl_buf_free(&b);
    return st;
}

/* ---- */

static cuddle_status open_engine(session *s)
{
    cuddle_engine_opts o = { .size = sizeof o, .device = device, .fast = fast,
        .state_dtype = state_dtype, .cpu = cpu, .threads = (uint32_t)threads,
        .context_max = (uint32_t)context, .f32_activations = f32, .progress = cli_progress };
    cuddle_engine_plan plan = { .size = sizeof plan };
    CDL_TRY(cuddle_engine_make_plan(&plan, s->model, &o));
    if (s->n_prompt >= plan.context_max)
        return cdl_status_fail(CUDDLE_ERR_FULL, "the prompt has %zu tokens and leaves no room in the context of %u; "
                "shorten it or give a larger --context", s->n_prompt, plan.context_max);
    if (n_max && (uint64_t)n_max < plan.context_max - s->n_prompt)
        o.context_max = (uint32_t)(s->n_prompt + (size_t)n_max);
    cuddle_status st = cuddle_engine_open(&s->engine, s->model, &o);
    cli_progress_end();
    CDL_TRY(st);
    cuddle_engine_describe(s->engine, &plan);
    if (verbose || cli_stderr_is_terminal())
        cli_note("%s, %s kernels, %u threads, context %u", plan.device, plan.cpu, plan.threads, plan.context_max);
    if (verbose && s->sampling.mode == CUDDLE_PICK_SAMPLE)
        cli_note("seed %llu", (unsigned long long)s->sampling.seed);
    return CUDDLE_OK;
}

static cuddle_status generate(session *s)
{
    cuddle_sequence *sequence;
    CDL_TRY(cuddle_sequence_open(&sequence, s->engine));
    cuddle_generate_opts o = { .size = sizeof o, .prompt = s->prompt, .n_prompt = s->n_prompt,
        .tokens_max = (size_t)n_max, .sampling = &s->sampling, .logprobs = (uint32_t)n_logprobs,
        .ignore_end = ignore_eos, .on_token = on_token, .on_text = s->tokenizer ? on_text : NULL, .user = s,
        .stops = stops.items, .n_stops = stops.n, .progress = on_progress };
    s->result.size = sizeof s->result;
    cuddle_status st = cuddle_generate(sequence, &o, &s->result);
    cli_progress_end();
    cuddle_sequence_close(sequence);
    CDL_TRY(st);
    CDL_TRY(s->written);
    CDL_TRY(finish_output(s));
    if (verbose)
        cli_note("load %.0f ms; prompt %zu tokens, %.1f tokens/s; answer %zu tokens, %.1f tokens/s; %s", s->load_ms,
                s->result.prompt_tokens, prefill_speed(s), s->result.tokens, decode_speed(s), finish_reason(s));
    return CUDDLE_OK;
}

static int run_session(session *s, const char *name, const char *prompt)
{
    double begin = cli_seconds();
    if (id_text && !read_ids(s))
        return CLI_USAGE;
    if (cuddle_model_open(&s->model, name) != CUDDLE_OK)
        return cli_fail_status();
    if (!sampling_options_read(&s->sampling, s->model))
        return CLI_USAGE;
    int code = take_prompt(s, prompt);
    if (code != CLI_OK)
        return code;
    if (open_engine(s) != CUDDLE_OK)
        return cli_fail_status();
    s->load_ms = 1e3 * (cli_seconds() - begin);
    return generate(s) == CUDDLE_OK ? CLI_OK : cli_fail_status();
}

static void close_session(session *s)
{
    cuddle_engine_close(s->engine);
    cuddle_model_close(s->model);
    cdl_mem_free(s->prompt);
    cdl_buf_free(&s->text);
    cdl_buf_free(&s->ids);
    cdl_buf_free(&s->logprobs);
}

static int run(char **args);
const cli_command cmd_run = {
    "run", "answer a prompt", "MODEL [PROMPT] [options]",
    "The prompt is the second argument, or what comes on stdin. It goes through the model's chat\n"
    "template unless --raw is given or the model has none. Ctrl-C ends the answer.\n"
    "--json prints text, prompt_ids, ids, finish_reason (stop, length, interrupted), stop (the string\n"
    "that was found), logprobs, seed and timings.\n\n"
    "Examples:\n"
    "  cuddle run models/SmolLM2-135M-Instruct-Q4_1.gguf \"What is the capital of France?\"\n"
    "  cuddle run MODEL --raw -n 40 --temperature 0.7 --seed 1 < story.txt\n",
    options, sizeof options / sizeof *options, 1, 2, run };

static int run(char **args)
{
    const char *prompt = args[1] && strcmp(args[1], "-") != 0 ? args[1] : NULL;
    const char *wrong = id_text && (args[1] || system_text) ? "--prompt-ids stands in place of a prompt and --system"
                      : raw && system_text ? "--system needs the chat template that --raw leaves out"
                      : !id_text && !args[1] && isatty(STDIN_FILENO)
                      ? "there is no prompt: give it as the second argument, on stdin or as --prompt-ids" : NULL;
    if (wrong) {
        cli_fail("%s", wrong);
        return CLI_USAGE;
    }
    cli_catch_interrupt();
    session s = { 0 };
    int code = run_session(&s, args[0], prompt);
    close_session(&s);
    return code;
}
