/*
 * Accepts Negotiate tokens as fast as one thread of the library can, and does nothing else: what any acceptor must pay.
 *
 * usage: accept KEYTAB REPLAY-CACHE PRINCIPAL TOKENS
 *
 * Each token of the file is its length, four bytes with the lowest first, and its bytes. All are read before the first is accepted. What
 * was counted comes in one line, as the load of the others prints it; processor time is this process's own.
 */
#include "../loop.h"

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
    report(took, count, last - began, used() - cpu);
    return 0;
}
