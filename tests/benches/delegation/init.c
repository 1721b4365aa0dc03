/*
 * Makes Negotiate tokens in users' names as fast as one thread of the library can, and does nothing else: what anybody who acts
 * for users must pay.
 *
 * usage: init KEYTAB PRINCIPAL TARGET COUNT USER...
 *
 * Logs in, asks the KDC for each user's ticket to itself and to the target, and then makes COUNT tokens, of one user after the
 * other. What was counted comes in two lines, tickets and tokens, as the load of the others prints it; processor time is
 * this process's own.
 */
#include "../loop.h"

static gss_OID_desc both[] = {{9, "\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"}, {6, "\x2b\x06\x01\x05\x05\x02"}};
static gss_OID_set_desc mechanisms = {2, both}, krb5 = {1, &both[0]}, spnego = {1, &both[1]};

static gss_name_t name_of(char *principal)
{
    gss_buffer_desc text = {strlen(principal), principal};
    gss_name_t name = GSS_C_NO_NAME;
    OM_uint32 minor, major = gss_import_name(&minor, &text, (gss_OID)GSS_KRB5_NT_PRINCIPAL_NAME, &name);
    if (major != GSS_S_COMPLETE)
        fail(principal, major, minor);
    return name;
}

static gss_cred_id_t log_in(const char *keytab, char *principal)
{
    gss_key_value_element_desc elements[] = {{"client_keytab", keytab}, {"ccache", "MEMORY:init"}};
    gss_key_value_set_desc store = {2, elements};
    gss_name_t name = name_of(principal);
    gss_cred_id_t credential = GSS_C_NO_CREDENTIAL;
    OM_uint32 minor, major = gss_acquire_cred_from(&minor, name, GSS_C_INDEFINITE, &mechanisms, GSS_C_INITIATE, &store,
                                                   &credential, NULL, NULL);
    if (major != GSS_S_COMPLETE)
        fail("no log-in", major, minor);
    gss_release_name(&minor, &name);
    return credential;
}

/* One token of a context that nobody answers. */
static void token(gss_cred_id_t credential, gss_name_t target)
{
    gss_ctx_id_t context = GSS_C_NO_CONTEXT;
    gss_buffer_desc made = GSS_C_EMPTY_BUFFER;
    OM_uint32 minor, ignored;
    OM_uint32 major = gss_init_sec_context(&minor, credential, &context, target, &both[1], 0, GSS_C_INDEFINITE,
                                           GSS_C_NO_CHANNEL_BINDINGS, GSS_C_NO_BUFFER, NULL, &made, NULL, NULL);
    if (GSS_ERROR(major) || made.length == 0)
        fail("no token", major, minor);
    gss_release_buffer(&ignored, &made);
    gss_delete_sec_context(&ignored, &context, GSS_C_NO_BUFFER);
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return 64;
    size_t count = strtoul(argv[4], NULL, 10), users = (size_t)argc - 5;
    gss_cred_id_t own = log_in(argv[1], argv[2]), *acting = calloc(users, sizeof *acting);
    gss_name_t target = name_of(argv[3]);
    uint64_t *took = calloc((count > users ? count : users) + 1, sizeof *took);
    if (count == 0 || acting == NULL || took == NULL)
        return 1;
    double cpu = used();
    uint64_t began = nanoseconds(), last = began, now;
    for (size_t at = 0; at < users; at++) {
        gss_name_t user = name_of(argv[5 + at]);
        /* As the broker does: of each mechanism more the KDC would be asked once more. */
        OM_uint32 minor, major = gss_acquire_cred_impersonate_name(&minor, own, user, GSS_C_INDEFINITE, &spnego,
                                                                   GSS_C_INITIATE, &acting[at], NULL, NULL);
        if (major == GSS_S_COMPLETE)
            major = gss_set_neg_mechs(&minor, acting[at], &krb5);
        if (major != GSS_S_COMPLETE)
            fail(argv[5 + at], major, minor);
        token(acting[at], target);
        gss_release_name(&minor, &user);
        now = nanoseconds();
        took[at] = (now - last) / 1000;
        last = now;
    }
    fputs("tickets ", stdout);
    report(took, users, last - began, used() - cpu);
    cpu = used();
    began = last = nanoseconds();
    for (size_t at = 0; at < count; at++) {
        token(acting[at % users], target);
        now = nanoseconds();
        took[at] = (now - last) / 1000;
        last = now;
    }
    fputs("tokens ", stdout);
    report(took, count, last - began, used() - cpu);
    return 0;
}
