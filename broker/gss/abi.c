/*
 * What src/sys.rs claims about the C interface, said in C, so that the compiler compares it with the installed headers.
 * Never linked: the test bindings_match_the_installed_headers runs `cc -fsyntax-only` over it.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <krb5/krb5.h>

#define SAME_TYPE(a, b) _Static_assert(__builtin_types_compatible_p(a, b), #a " is not " #b)
#define PROTOTYPE(function, ...) \
    _Static_assert(__builtin_types_compatible_p(__typeof__(function), OM_uint32(__VA_ARGS__)), #function)
#define POINTERS(n) ((n) * sizeof(void *))
#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), "size of " #type)
#define OFFSET(type, member, bytes) _Static_assert(offsetof(type, member) == (bytes), "offset of " #member)

SAME_TYPE(OM_uint32, unsigned int);
SAME_TYPE(gss_cred_usage_t, int);
SAME_TYPE(gss_qop_t, unsigned int);
SAME_TYPE(krb5_error_code, int);
SAME_TYPE(krb5_flags, int);
SAME_TYPE(krb5_timestamp, int);

SIZE(gss_OID_desc, POINTERS(2));
OFFSET(gss_OID_desc, length, 0);
OFFSET(gss_OID_desc, elements, POINTERS(1));
SIZE(gss_OID_set_desc, POINTERS(2));
OFFSET(gss_OID_set_desc, count, 0);
OFFSET(gss_OID_set_desc, elements, POINTERS(1));
SIZE(gss_buffer_desc, POINTERS(2));
OFFSET(gss_buffer_desc, length, 0);
OFFSET(gss_buffer_desc, value, POINTERS(1));
SIZE(struct gss_channel_bindings_struct, POINTERS(8));
OFFSET(struct gss_channel_bindings_struct, initiator_addrtype, 0);
OFFSET(struct gss_channel_bindings_struct, initiator_address, POINTERS(1));
OFFSET(struct gss_channel_bindings_struct, acceptor_addrtype, POINTERS(3));
OFFSET(struct gss_channel_bindings_struct, acceptor_address, POINTERS(4));
OFFSET(struct gss_channel_bindings_struct, application_data, POINTERS(6));
SIZE(gss_key_value_element_desc, POINTERS(2));
OFFSET(gss_key_value_element_desc, key, 0);
OFFSET(gss_key_value_element_desc, value, POINTERS(1));
SIZE(gss_key_value_set_desc, POINTERS(2));
OFFSET(gss_key_value_set_desc, count, 0);
OFFSET(gss_key_value_set_desc, elements, POINTERS(1));
OFFSET(gss_krb5_lucid_context_v1_t, version, 0);
OFFSET(gss_krb5_lucid_context_v1_t, initiate, 4);
OFFSET(gss_krb5_lucid_context_v1_t, endtime, 8);

PROTOTYPE(gss_import_name, OM_uint32 *, gss_buffer_t, gss_OID, gss_name_t *);
PROTOTYPE(gss_display_name, OM_uint32 *, gss_name_t, gss_buffer_t, gss_OID *);
PROTOTYPE(gss_localname, OM_uint32 *, gss_name_t, gss_const_OID, gss_buffer_t);
PROTOTYPE(gss_get_name_attribute, OM_uint32 *, gss_name_t, gss_buffer_t, int *, int *, gss_buffer_t, gss_buffer_t,
          int *);
PROTOTYPE(gss_release_name, OM_uint32 *, gss_name_t *);
PROTOTYPE(gss_release_buffer, OM_uint32 *, gss_buffer_t);
PROTOTYPE(gss_display_status, OM_uint32 *, OM_uint32, int, gss_OID, OM_uint32 *, gss_buffer_t);
PROTOTYPE(gss_acquire_cred_from, OM_uint32 *, gss_name_t, OM_uint32, gss_OID_set, int, gss_const_key_value_set_t,
          gss_cred_id_t *, gss_OID_set *, OM_uint32 *);
PROTOTYPE(gss_acquire_cred_impersonate_name, OM_uint32 *, gss_cred_id_t, gss_name_t, OM_uint32, gss_OID_set, int,
          gss_cred_id_t *, gss_OID_set *, OM_uint32 *);
PROTOTYPE(gss_set_neg_mechs, OM_uint32 *, gss_cred_id_t, gss_OID_set);
PROTOTYPE(gss_inquire_cred, OM_uint32 *, gss_cred_id_t, gss_name_t *, OM_uint32 *, int *, gss_OID_set *);
PROTOTYPE(gss_release_cred, OM_uint32 *, gss_cred_id_t *);
PROTOTYPE(gss_accept_sec_context, OM_uint32 *, gss_ctx_id_t *, gss_cred_id_t, gss_buffer_t, gss_channel_bindings_t,
          gss_name_t *, gss_OID *, gss_buffer_t, OM_uint32 *, OM_uint32 *, gss_cred_id_t *);
PROTOTYPE(gss_init_sec_context, OM_uint32 *, gss_cred_id_t, gss_ctx_id_t *, gss_name_t, gss_OID, OM_uint32, OM_uint32,
          gss_channel_bindings_t, gss_buffer_t, gss_OID *, gss_buffer_t, OM_uint32 *, OM_uint32 *);
PROTOTYPE(gss_inquire_context, OM_uint32 *, gss_ctx_id_t, gss_name_t *, gss_name_t *, OM_uint32 *, gss_OID *,
          OM_uint32 *, int *, int *);
PROTOTYPE(gss_get_mic, OM_uint32 *, gss_ctx_id_t, gss_qop_t, gss_buffer_t, gss_buffer_t);
PROTOTYPE(gss_delete_sec_context, OM_uint32 *, gss_ctx_id_t *, gss_buffer_t);
PROTOTYPE(gsskrb5_extract_authtime_from_sec_context, OM_uint32 *, gss_ctx_id_t, int *);
PROTOTYPE(gss_krb5_get_tkt_flags, OM_uint32 *, gss_ctx_id_t, int *);
PROTOTYPE(gss_krb5_export_lucid_sec_context, OM_uint32 *, gss_ctx_id_t *, OM_uint32, void **);
PROTOTYPE(gss_krb5_free_lucid_sec_context, OM_uint32 *, void *);

/* The one function that src/forwarded.rs puts in the place of libkrb5's, and what it does that with; src/configuration.rs's. */
#define FUNCTION(function, result, ...) SAME_TYPE(__typeof__(function), result(__VA_ARGS__))
FUNCTION(krb5_rd_cred, krb5_error_code, krb5_context, krb5_auth_context, krb5_data *, krb5_creds ***, krb5_replay_data *);
FUNCTION(krb5_init_context, krb5_error_code, krb5_context *);
FUNCTION(krb5_free_context, void, krb5_context);
FUNCTION(krb5_cc_default_name, const char *, krb5_context);
FUNCTION(krb5_parse_name, krb5_error_code, krb5_context, const char *, krb5_principal *);
FUNCTION(krb5_free_creds, void, krb5_context, krb5_creds *);
FUNCTION(calloc, void *, size_t, size_t);
FUNCTION(free, void, void *);
FUNCTION(dlsym, void *, void *, const char *);
SAME_TYPE(krb5_error_code, int);
OFFSET(krb5_creds, client, POINTERS(1));
OFFSET(krb5_creds, server, POINTERS(2));
_Static_assert(sizeof(krb5_creds) <= POINTERS(32), "room for krb5_creds");
