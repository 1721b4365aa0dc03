/*
 * What the loops of the library alone have in common: how they fail, what they measure time with, and the line by which they say what
 * they counted, as the load of the others prints it.
 */
#ifndef LOOP_H
#define LOOP_H

#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static void fail(const char *what, OM_uint32 major, OM_uint32 minor)
{
    OM_uint32 ignored, more = 0;
    gss_buffer_desc text;
    gss_display_status(&ignored, minor, GSS_C_MECH_CODE, (gss_OID)gss_mech_krb5, &more, &text);
    fprintf(stderr, "%s: %u/%u: %.*s\n", what, major, minor, (int)text.length, (char *)text.value);
    exit(1);
}

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double used(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static int by_size(const void *first, const void *second)
{
    uint64_t one = *(const uint64_t *)first, other = *(const uint64_t *)second;
    return (one > other) - (one < other);
}

static void report(uint64_t *took, size_t count, uint64_t nanoseconds, double cpu)
{
    qsort(took, count, sizeof *took, by_size);
    printf("counted requests=%zu microseconds=%llu refused=0 broken=0 p50=%llu p90=%llu p99=%llu p999=%llu cpu=%.0f\n", count,
           (unsigned long long)(nanoseconds / 1000), (unsigned long long)took[count / 2],
           (unsigned long long)took[count * 9 / 10], (unsigned long long)took[count * 99 / 100],
           (unsigned long long)took[count * 999 / 1000], cpu);
}

#endif
