/*
 * Accepts Negotiate tokens as fast as one thread of the library can, and does nothing else: what any acceptor must pay.
 *
 * usage: accept KEYTAB REPLAY-CACHE PRINCIPAL TOKENS
 *
 * Each token of the file is its length, four bytes with the lowest first, and its bytes. All are read before the first is accepted. What
 * was counted comes in one line, as the load of the others prints it; processor time is this process's own.
 */
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

/* As the broker acquires its own: by name, SPNEGO that may agree on krb5 only, keytab and replay cache named. */
static gss_cred_id_t acquire(const char *keytab, const char *replay_cache, char *principal)
{
    gss_OID_desc both[] = {*gss_mech_krb5, {6, "\x2b\x06\x01\x05\x05\x02"}};
    gss_OID_set_desc mechanisms = {2, both}, krb5 = {1, both};
    gss_key_value_element_desc elements[] = {{"keytab", keytab}, {"rcache", replay_cache}};
    gss_key_value_set_desc store = {2, elements};
    gss_buffer_desc text = {strlen(principal), principal};
    gss_cred_id_t credential = GSS_C_NO_CREDENTIAL;
    gss_name_t name = GSS_C_NO_NAME;
    OM_uint32 minor, major = gss_import_name(&minor, &text, (gss_OID)GSS_KRB5_NT_PRINCIPAL_NAME, &name);
    if (major == GSS_S_COMPLETE)
        major = gss_acquire_cred_from(&minor, name, GSS_C_INDEFINITE, &mechanisms, GSS_C_ACCEPT, &store, &credential, NULL,
                                      NULL);
    if (major == GSS_S_COMPLETE)
        major = gss_set_neg_mechs(&minor, credential, &krb5);
    if (major != GSS_S_COMPLETE)
        fail("no credential", major, minor);
    gss_release_name(&minor, &name);
    return credential;
}

static gss_buffer_desc *read_tokens(const char *path, size_t *count)
{
    FILE *file = fopen(path, "rb");
    gss_buffer_desc *tokens = NULL;
    unsigned char head[4];
    *count = 0;
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    while (fread(head, 1, sizeof head, file) == sizeof head) {
        size_t length = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        gss_buffer_desc token = {length, malloc(length)};
        tokens = realloc(tokens, (*count + 1) * sizeof *tokens);
        if (tokens == NULL || token.value == NULL || fread(token.value, 1, length, file) != length) {
            fputs("the tokens cannot be read\n", stderr);
            exit(1);
        }
        tokens[(*count)++] = token;
    }
    fclose(file);
    return tokens;
}

static int by_size(const void *first, const void *second)
{
    uint64_t one = *(const uint64_t *)first, other = *(const uint64_t *)second;
    return (one > other) - (one < other);
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 64;
    gss_cred_id_t credential = acquire(argv[1], argv[2], argv[3]);
    size_t count;
    gss_buffer_desc *tokens = read_tokens(argv[4], &count);
    uint64_t *took = calloc(count + 1, sizeof *took);
    if (count == 0 || took == NULL)
        return 1;
    double cpu = used();
    uint64_t began = nanoseconds(), last = began;
    for (size_t at = 0; at < count; at++) {
        gss_ctx_id_t context = GSS_C_NO_CONTEXT;
        gss_buffer_desc reply = GSS_C_EMPTY_BUFFER;
        OM_uint32 minor, ignored;
        OM_uint32 major = gss_accept_sec_context(&minor, &context, credential, &tokens[at], GSS_C_NO_CHANNEL_BINDINGS, NULL,
                                                 NULL, &reply, NULL, NULL, NULL);
        if (major != GSS_S_COMPLETE)
            fail("not accepted", major, minor);
        gss_release_buffer(&ignored, &reply);
        gss_delete_sec_context(&ignored, &context, GSS_C_NO_BUFFER);
        uint64_t now = nanoseconds();
        took[at] = (now - last) / 1000;
        last = now;
    }
    cpu = used() - cpu;
    qsort(took, count, sizeof *took, by_size);
    printf("counted requests=%zu microseconds=%llu refused=0 broken=0 p50=%llu p90=%llu p99=%llu p999=%llu cpu=%.0f\n", count,
           (unsigned long long)((last - began) / 1000), (unsigned long long)took[count / 2],
           (unsigned long long)took[count * 9 / 10], (unsigned long long)took[count * 99 / 100],
           (unsigned long long)took[count * 999 / 1000], cpu);
    return 0;
}
