#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"
#include "pool.h"

enum { CPUS_MAX = 4096, LINE_BYTES = 4096 };

/* The first line of a small file of the system; false when there is none. */
static bool read_line(const char *path, char *line, size_t size)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(line, (int)size, f) != NULL;
    fclose(f);
    return ok;
}

/* The lowest number in the list of processors that share cpu's core ("0,32" or "0-1"). */
static size_t first_sibling(size_t cpu)
{
    char path[96], line[256];
    size_t first;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list", cpu);
    return read_line(path, line, sizeof line) && sscanf(line, "%zu", &first) == 1 ? first : cpu;
}

/* Cores with a processor in the affinity mask; 0 when it cannot be read. */
static uint32_t count_cores(void)
{
    size_t bytes = CPU_ALLOC_SIZE(CPUS_MAX);
    cpu_set_t *allowed = cdl_mem_zalloc(2, bytes);
    if (!allowed)
        return 0;
    cpu_set_t *cores = (cpu_set_t *)((char *)allowed + bytes);
    if (sched_getaffinity(0, bytes, allowed) == 0)
        for (size_t cpu = 0; cpu < CPUS_MAX; cpu++)
            if (CPU_ISSET_S(cpu, bytes, allowed))
                CPU_SET_S(first_sibling(cpu), bytes, cores);
    int n = CPU_COUNT_S(bytes, cores);
    cdl_mem_free(allowed);
    return n > 0 ? (uint32_t)n : 0;
}

/* Processors' worth of time that <root>/<group> allows; 0: no limit, or no such file. */
static double group_quota(const char *root, const char *group)
{
    char path[LINE_BYTES + 64], line[128];
    double quota, period;
    snprintf(path, sizeof path, "%s%s/cpu.max", root, group);
    if (read_line(path, line, sizeof line)) /* version 2: "max 100000" or "150000 100000" */
        return sscanf(line, "%lf %lf", &quota, &period) == 2 && period > 0 ? quota / period : 0;
    snprintf(path, sizeof path, "%s%s/cpu.cfs_quota_us", root, group);
    if (!read_line(path, line, sizeof line) || sscanf(line, "%lf", &quota) != 1 || quota <= 0)
        return 0;
    snprintf(path, sizeof path, "%s%s/cpu.cfs_period_us", root, group);
    if (!read_line(path, line, sizeof line) || sscanf(line, "%lf", &period) != 1 || period <= 0)
        return 0;
    return quota / period;
}

/* The smallest quota of a group and its ancestors. Inside a container the group's path may be
 * the host's while the files start at the container: its root is looked at in any case. */
static double least_quota(const char *root, char *group)
{
    double least = 0;
    for (;;) {
        double q = group_quota(root, group);
        if (q > 0 && (least == 0 || q < least))
            least = q;
        char *slash = strrchr(group, '/');
        if (!slash)
            return least;
        *slash = '\0';
    }
}

static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; p; p = strchr(p, ','), p = p ? p + 1 : NULL)
        if (strncmp(p, word, n) == 0 && (p[n] == ',' || p[n] == '\0'))
            return true;
    return false;
}

/* Lines of /proc/self/cgroup: "0::/path" (version 2), "4:cpu,cpuacct:/path" (version 1). */
static double cgroup_quota(void)
{
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f)
        return 0;
    char line[LINE_BYTES];
    double least = 0;
    while (fgets(line, sizeof line, f)) {
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        controllers++;
        group[strcspn(group, "\n")] = '\0';
        double q = !*controllers ? least_quota("/sys/fs/cgroup", group)
            : has_word(controllers, "cpu") ? least_quota("/sys/fs/cgroup/cpu", group) : 0;
        if (q > 0 && (least == 0 || q < least))
            least = q;
    }
    fclose(f);
    return least;
}

uint32_t cdl_pool_default_threads(void)
{
    uint32_t n = count_cores();
    double quota = cgroup_quota();
    if (quota > 0 && quota + 0.5 < n)
        n = (uint32_t)(quota + 0.5);
    return n < 1 ? 1 : n < CDL_POOL_THREADS_MAX ? n : CDL_POOL_THREADS_MAX;
}
