/* cmd_chat.c - `cuddle chat`: a conversation. The sequence keeps what it has seen: a turn feeds only what is new. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "cuddle_generate.h"
#include "sampling_options.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"

static int64_t n_max, context, threads;
static const char *system_text, *template_file, *extra_json, *device, *state_dtype, *cpu;
static bool verbose, fast;

static const cli_option options[] = {
    { "system", 's', CLI_STRING, &system_text, "TEXT", "the system message", 0, 0 },
    { "chat-template", 0, CLI_STRING, &template_file, "FILE", "the chat template, instead of the model's own", 0, 0 },
    { "n-predict", 'n', CLI_INT, &n_max, "N", "most tokens of an answer (default: until the model ends)", 1,
      INT32_MAX },
    { "template-vars", 0, CLI_STRING, &extra_json, "JSON",
      "an object of variables for the chat template: {\"enable_thinking\": false}", 0, 0 },
    { "verbose", 'v', CLI_FLAG, &verbose, NULL, "say on stderr what each turn reused, and the speed", 0, 0 },
    SAMPLING_OPTIONS,
    { "machine", 0, CLI_HEADING, NULL, NULL, "machine", 0, 0 },
    { "context", 'c', CLI_INT, &context, "N",
      "tokens of the conversation (default: the model's limit, at most 8192)", 1, 1 << 24 },
    { "threads", 't', CLI_INT, &threads, "N", "threads (default: all processors)", 1, 1024 },
    { "device", 'd', CLI_STRING, &device, "D", "cpu, cuda, cuda:N (default: a GPU, else cpu)", 0, 0 },
    { "fast", 0, CLI_FLAG, &fast, NULL, "cuda: long prompts by cuBLASLt; roundings depend on what is batched", 0, 0 },
    { "state-dtype", 0, CLI_STRING, &state_dtype, "T",
      "type of keys and values: f16 or f32; on cuda f16, bf16, i8 or f8e4m3", 0, 0 },
    { "cpu", 0, CLI_STRING, &cpu, "SET", "kernels: ref, avx2, avx512, amx (default: the best here)", 0, 0 },
};

typedef struct {
    cuddle_model *model;
    const cuddle_tokenizer *tokenizer;
    const cuddle_chat_template *template;
    cuddle_engine *engine;
    cuddle_sequence *sequence;
    cuddle_encoding *encoding;
    cuddle_sampling sampling;
    uint32_t context_max;
    int32_t *seen;             /* [context_max] the sequence's tokens, as far as it goes */
    size_t n_seen;
    cuddle_chat_message *messages; /* contents are ours */
    size_t n_messages, messages_cap;
    cdl_buf answer;
    cuddle_status written;     /* of answer */
    bool interactive;
} chat;

/* ---- The conversation ---- */

static cuddle_status add_message(chat *c, const char *role, const char *content)
{
    if (c->n_messages == c->messages_cap) {
        size_t cap = c->messages_cap * 2 + 8;
        cuddle_chat_message *grown = cdl_mem_realloc(c->messages, cap * sizeof *grown);
        if (!grown)
            return cdl_status_nomem("the conversation");
        c->messages = grown;
        c->messages_cap = cap;
    }
    char *copy = cdl_mem_strdup(content);
    if (!copy)
        return cdl_status_nomem("the conversation");
    c->messages[c->n_messages++] = (cuddle_chat_message){ role, copy };
    return CUDDLE_OK;
}

/* Keeps the first n messages. */
static void drop_messages(chat *c, size_t n)
{
    while (c->n_messages > n)
        cdl_mem_free((char *)(uintptr_t)c->messages[--c->n_messages].content);
}

static size_t first_turn(void)
{
    return system_text != NULL;
}

/* ---- A turn ---- */

/* The conversation's tokens, up to what opens the answer; borrowed from the encoding. */
static cuddle_status encode(chat *c, const int32_t **ids, size_t *n)
{
    cuddle_chat_request q = { .size = sizeof q, .messages = c->messages, .n_messages = c->n_messages,
        .extra_json = extra_json, .add_generation_prompt = true };
    cuddle_encode_opts o = { .size = sizeof o, .no_special_tokens = true, .ids_only = true, .no_truncation = true,
        .no_padding = true };
    cuddle_encoding_view view = { .size = sizeof view };
    char *text;
    size_t len;
    CDL_TRY(cuddle_chat_template_render(c->template, &q, &text, &len));
    cuddle_status st = cuddle_tokenizer_encode(c->tokenizer, c->encoding, text, len, &o);
    cuddle_chat_text_free(text);
    CDL_TRY(st);
    cuddle_encoding_look(c->encoding, &view);
    *ids = view.ids;
    *n = view.n;
    if (!view.n)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "the chat template gives an empty text");
    if (view.n >= c->context_max)
        return cdl_status_fail(CUDDLE_ERR_FULL, "the conversation has %zu tokens and leaves no room in the context of"
                " %u; /clear begins anew, --context makes room", view.n, c->context_max);
    return CUDDLE_OK;
}

/* Leaves in the sequence what it shares with the ids, but at least one to feed. */
static cuddle_status keep_common(chat *c, const int32_t *ids, size_t n)
{
    size_t common = 0;
    while (common < c->n_seen && common + 1 < n && c->seen[common] == ids[common])
        common++;
    c->n_seen = common;
    if (common == cuddle_sequence_length(c->sequence))
        return CUDDLE_OK;
    if (cuddle_sequence_truncate(c->sequence, common) == CUDDLE_OK)
        return CUDDLE_OK;
    cuddle_sequence_close(c->sequence); /* a window has passed that place: all is fed again */
    c->sequence = NULL;
    c->n_seen = 0;
    return cuddle_sequence_open(&c->sequence, c->engine);
}

static bool on_token(void *user, const cuddle_generated *g)
{
    chat *c = user;
    if (c->n_seen < c->context_max)
        c->seen[c->n_seen++] = g->token;
    return !cli_interrupted();
}

static bool on_text(void *user, const char *text, size_t n)
{
    chat *c = user;
    fwrite(text, 1, n, stdout);
    fflush(stdout);
    c->written = cdl_buf_append(&c->answer, text, n);
    return c->written == CUDDLE_OK && !cli_interrupted() && !ferror(stdout);
}

static void note_turn(const cuddle_generate_result *r, size_t kept)
{
    double fed = r->prefill_ms > 0 ? (double)r->prompt_tokens / r->prefill_ms * 1e3 : 0;
    double made = r->tokens > 1 && r->decode_ms > 0 ? (double)(r->tokens - 1) / r->decode_ms * 1e3 : 0;
    cli_note("kept %zu tokens; fed %zu, %.1f tokens/s; answered %zu, %.1f tokens/s%s", kept, r->prompt_tokens, fed,
            r->tokens, made, r->finish == CUDDLE_FINISH_LENGTH ? "; the limit is reached" : "");
}

static cuddle_status generate(chat *c, const int32_t *ids, size_t n)
{
    CDL_TRY(keep_common(c, ids, n));
    size_t kept = c->n_seen;
    memcpy(c->seen + kept, ids + kept, (n - kept) * sizeof *ids);
    c->n_seen = n;
    cuddle_generate_opts o = { .size = sizeof o, .prompt = c->seen + kept, .n_prompt = n - kept,
        .tokens_max = (size_t)n_max, .sampling = &c->sampling, .on_token = on_token, .on_text = on_text, .user = c };
    cuddle_generate_result r = { .size = sizeof r };
    cdl_buf_clear(&c->answer);
    c->written = CUDDLE_OK;
    cuddle_status st = cuddle_generate(c->sequence, &o, &r);
    size_t length = cuddle_sequence_length(c->sequence);
    c->n_seen = c->n_seen < length ? c->n_seen : length; /* the last token is not fed */
    putchar('\n');
    fflush(stdout);
    if (st == CUDDLE_OK && verbose)
        note_turn(&r, kept);
    return st == CUDDLE_OK ? c->written : st;
}

/* The answer to what the conversation ends with. A failure takes back the user's message. */
static bool answer(chat *c)
{
    const int32_t *ids;
    size_t n;
    cli_catch_interrupt();
    cuddle_status st = encode(c, &ids, &n);
    if (st == CUDDLE_OK)
        st = generate(c, ids, n);
    if (st == CUDDLE_OK)
        st = add_message(c, "assistant", c->answer.data ? c->answer.data : "");
    signal(SIGINT, SIG_DFL);
    if (st == CUDDLE_OK)
        return !ferror(stdout);
    cli_fail_status();
    drop_messages(c, c->n_messages - 1);
    return st == CUDDLE_ERR_FULL || st == CUDDLE_ERR_ARG;
}

/* ---- Commands ---- */

static cuddle_status put_messages(const chat *c, cdl_buf *b)
{
    CDL_TRY(cdl_buf_puts(b, "["));
    for (size_t i = 0; i < c->n_messages; i++) {
        const cuddle_chat_message *m = &c->messages[i];
        CDL_TRY(cdl_buf_printf(b, "%s\n  {\"role\": \"%s\", \"content\": ", i ? "," : "", m->role));
        CDL_TRY(cdl_json_put_string(b, m->content, strlen(m->content)));
        CDL_TRY(cdl_buf_putc(b, '}'));
    }
    return cdl_buf_puts(b, "\n]\n");
}

static void save(const chat *c, const char *path)
{
    cdl_buf b = { 0 };
    if (put_messages(c, &b) != CUDDLE_OK) {
        cli_fail_status();
    } else {
        FILE *f = fopen(path, "we");
        bool ok = f && fwrite(b.data, 1, b.len, f) == b.len;
        ok = f && fclose(f) == 0 && ok;
        if (ok)
            cli_note("%zu messages saved in %s", c->n_messages, path);
        else
            cli_fail("%s: %s", path, strerror(errno));
    }
    cdl_buf_free(&b);
}

static bool regenerate(chat *c)
{
    if (c->n_messages < first_turn() + 2) {
        cli_note("there is no answer yet");
        return true;
    }
    drop_messages(c, c->n_messages - 1);
    c->sampling.seed++; /* another answer than before */
    return answer(c);
}

/* False: the conversation ends. */
static bool obey(chat *c, const char *line)
{
    size_t n = strcspn(line, " ");
    const char *rest = line + n + strspn(line + n, " ");
    if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0)
        return false;
    if (strcmp(line, "/regen") == 0)
        return regenerate(c);
    if (strcmp(line, "/clear") == 0) {
        drop_messages(c, first_turn());
        cli_note("a new conversation");
    } else if (n == 5 && strncmp(line, "/save", n) == 0 && *rest) {
        save(c, rest);
    } else {
        cli_note("/clear begins anew, /regen answers again, /save FILE writes the messages as JSON, /exit or Ctrl-D"
                 " ends; Ctrl-C stops an answer, a line that ends in \\ goes on in the next");
    }
    return true;
}

/* ---- Lines ---- */

static void prompt(const chat *c, const char *sign)
{
    if (c->interactive)
        fputs(sign, stderr);
}

/* A line, and those that it goes on in: b; false at the end of the input. */
static bool read_message(chat *c, cdl_buf *b, cuddle_status *st)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    bool more = true, any = false;
    cdl_buf_clear(b);
    prompt(c, "> ");
    while (more && *st == CUDDLE_OK && (n = getline(&line, &cap, stdin)) >= 0) {
        any = true;
        while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        more = n && line[n - 1] == '\\';
        *st = cdl_buf_append(b, line, (size_t)(n - more));
        if (more && *st == CUDDLE_OK)
            *st = cdl_buf_putc(b, '\n');
        prompt(c, more ? ". " : "");
    }
    free(line);
    return any;
}

static bool take_message(chat *c, const cdl_buf *b)
{
    if (!b->len)
        return true;
    if (b->data[0] == '/')
        return obey(c, b->data);
    if (add_message(c, "user", b->data) == CUDDLE_OK)
        return answer(c);
    cli_fail_status();
    return false;
}

static int converse(chat *c)
{
    cdl_buf b = { .max = 64 << 20 };
    cuddle_status st = CUDDLE_OK;
    bool go_on = true;
    while (go_on && read_message(c, &b, &st) && st == CUDDLE_OK)
        go_on = take_message(c, &b);
    if (go_on && c->interactive)
        fputc('\n', stderr); /* behind Ctrl-D */
    cdl_buf_free(&b);
    return st == CUDDLE_OK ? CLI_OK : cli_fail_status();
}

/* ---- */

static cuddle_status open_engine(chat *c)
{
    cuddle_engine_opts o = { .size = sizeof o, .device = device, .fast = fast,
        .state_dtype = state_dtype, .cpu = cpu, .threads = (uint32_t)threads,
        .context_max = (uint32_t)context, .progress = cli_progress };
    cuddle_engine_plan plan = { .size = sizeof plan };
    cuddle_status st = cuddle_engine_open(&c->engine, c->model, &o);
    cli_progress_end();
    CDL_TRY(st);
    cuddle_engine_describe(c->engine, &plan);
    c->context_max = plan.context_max;
    if (verbose || c->interactive)
        cli_note("%s, %s kernels, %u threads, context %u; /help lists the commands", plan.device, plan.cpu,
                plan.threads, plan.context_max);
    c->seen = cdl_mem_array(plan.context_max, sizeof *c->seen);
    return c->seen ? cuddle_sequence_open(&c->sequence, c->engine) : cdl_status_nomem("the conversation");
}

static cuddle_status open_chat(chat *c)
{
    CDL_TRY(cuddle_model_tokenizer(c->model, &c->tokenizer));
    if (template_file)
        CDL_TRY(cuddle_model_use_chat_template(c->model, template_file));
    CDL_TRY(cuddle_model_chat_template(c->model, &c->template));
    CDL_TRY(cuddle_encoding_new(&c->encoding));
    CDL_TRY(open_engine(c));
    return system_text ? add_message(c, "system", system_text) : CUDDLE_OK;
}

static void close_chat(chat *c)
{
    drop_messages(c, 0);
    cdl_mem_free(c->messages);
    cdl_mem_free(c->seen);
    cdl_buf_free(&c->answer);
    cuddle_encoding_free(c->encoding);
    cuddle_sequence_close(c->sequence);
    cuddle_engine_close(c->engine);
    cuddle_model_close(c->model);
}

static int run_chat(chat *c, const char *name)
{
    if (cuddle_model_open(&c->model, name) != CUDDLE_OK)
        return cli_fail_status();
    if (!sampling_options_read(&c->sampling, c->model))
        return CLI_USAGE;
    return open_chat(c) == CUDDLE_OK ? converse(c) : cli_fail_status();
}

static int run(char **args);
const cli_command cmd_chat = {
    "chat", "talk with a model", "MODEL [options]",
    "Each line on stdin is a message; the answer comes as it is generated. Only what is new in the\n"
    "conversation is fed to the model. Lines that begin with / are commands: /help lists them.\n\n"
    "Examples:\n"
    "  cuddle chat models/SmolLM2-135M-Instruct-Q4_1.gguf --system \"Answer in one sentence.\"\n"
    "  printf 'Hi\\nWhat did I say?\\n' | cuddle chat MODEL --greedy\n",
    options, sizeof options / sizeof *options, 1, 1, run };

static int run(char **args)
{
    chat c = { .interactive = isatty(STDIN_FILENO) && cli_stderr_is_terminal() };
    int code = run_chat(&c, args[0]);
    close_chat(&c);
    return code;
}
