#include "hub/hub.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/map.h"
#include "base/mem.h"

enum { REPO_MAX = 96, REVISION_MAX = 256 };

static bool exists(const char *path)
{
    struct stat st;
    return !stat(path, &st);
}

/* org/name of letters, digits, '-', '_' and '.', as the Hub allows. */
static bool is_repo(const char *s, size_t n)
{
    size_t slashes = 0;
    for (size_t i = 0; i < n; i++) {
        slashes += s[i] == '/';
        if (!isalnum((unsigned char)s[i]) && !strchr("-_./", s[i]))
            return false;
        if (i && ((s[i] == '-' && s[i - 1] == '-') || (s[i] == '.' && s[i - 1] == '.')))
            return false;
    }
    return n && n <= 2 * REPO_MAX && slashes <= 1 && s[0] != '/' && s[0] != '.' && s[n - 1] != '/';
}

/* $HF_HUB_CACHE, else $HF_HOME/hub, else the default. */
static cuddle_status put_cache(cdl_buf *b)
{
    const char *cache = cdl_env_get(CDL_ENV_HF_HUB_CACHE), *home = cdl_env_get(CDL_ENV_HF_HOME);
    if (!cache)
        cache = cdl_env_get(CDL_ENV_HUGGINGFACE_HUB_CACHE);
    if (cache)
        return cdl_buf_puts(b, cache);
    if (home)
        return cdl_buf_printf(b, "%s/hub", home);
    const char *xdg = cdl_env_get(CDL_ENV_XDG_CACHE_HOME), *user = cdl_env_get(CDL_ENV_HOME);
    if (xdg)
        return cdl_buf_printf(b, "%s/huggingface/hub", xdg);
    return cdl_buf_printf(b, "%s/.cache/huggingface/hub", user ? user : "");
}

/* The commit that refs/<revision> names, or the revision itself. */
static cuddle_status put_commit(cdl_buf *path, const char *repo_folder, const char *revision)
{
    char *text = NULL;
    size_t n;
    cdl_buf ref = { 0 };
    cuddle_status st = cdl_buf_printf(&ref, "%s/refs/%s", repo_folder, revision);
    if (st == CUDDLE_OK && exists(ref.data))
        st = cdl_map_read(&text, &n, ref.data, REVISION_MAX);
    if (text)
        text[strcspn(text, " \r\n")] = 0;
    const char *commit = text ? text : revision;
    if (st == CUDDLE_OK && strchr(commit, '/'))
        st = cdl_status_fail(CUDDLE_ERR_FORMAT, "%s names no commit", ref.data);
    if (st == CUDDLE_OK)
        st = cdl_buf_printf(path, "%s/snapshots/%s", repo_folder, commit);
    cdl_mem_free(text);
    cdl_buf_free(&ref);
    return st;
}

static cuddle_status not_there(const char *name, const char *cache)
{
    return cdl_status_fail(CUDDLE_ERR_NOTFOUND,
            "%s: no such file or folder, and it is not in the Hugging Face cache (%s); "
            "get it with `hf download %s`, or give the path of a folder or .gguf file", name, cache, name);
}

static cuddle_status resolve_repo(cdl_buf *path, const char *name, size_t repo_len)
{
    const char *revision = name[repo_len] == '@' ? name + repo_len + 1 : "main";
    cdl_buf folder = { 0 }, cache = { 0 };
    cuddle_status st;
    if (strlen(revision) > REVISION_MAX || strstr(revision, "..") || !*revision)
        return cdl_status_fail(CUDDLE_ERR_ARG, "%s: no revision behind the @", name);
    CDL_TRY_OUT(put_cache(&cache));
    CDL_TRY_OUT(cdl_buf_printf(&folder, "%s/models--", cache.data));
    for (size_t i = 0; i < repo_len; i++)
        CDL_TRY_OUT(name[i] == '/' ? cdl_buf_puts(&folder, "--") : cdl_buf_putc(&folder, name[i]));
    CDL_TRY_OUT(put_commit(path, folder.data, revision));
    if (!exists(path->data))
        st = not_there(name, cache.data);
out:
    cdl_buf_free(&folder);
    cdl_buf_free(&cache);
    return st;
}

cuddle_status cdl_hub_resolve(char **out, const char *name)
{
    *out = NULL;
    if (!*name)
        return cdl_status_fail(CUDDLE_ERR_ARG, "the model's name is empty");
    size_t repo_len = strcspn(name, "@");
    cdl_buf path = { 0 };
    cuddle_status st;
    if (exists(name))
        st = cdl_buf_puts(&path, name);
    else if (is_repo(name, repo_len) && strncmp(name, "./", 2))
        st = resolve_repo(&path, name, repo_len);
    else
        st = cdl_status_fail(CUDDLE_ERR_NOTFOUND, "%s: no such file or folder", name);
    if (st == CUDDLE_OK) {
        *out = cdl_mem_strdup(path.data);
        if (!*out)
            st = cdl_status_nomem("the model's path");
    }
    cdl_buf_free(&path);
    return st;
}
