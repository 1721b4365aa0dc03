/*
 * Prints, in hexadecimal, Kerberos tokens that no client makes, with the tickets of KRB5CCNAME or none:
 *
 *   odd_tokens handing-over SERVICE KRB-CRED   hands over a KRB-CRED (in hexadecimal, well-formed or not; RFC 4121 4.1.1.1)
 *   odd_tokens forged KEYTAB SERVICE CLIENT    with a ticket for CLIENT that is made here, by the service's own key
 */
#include <krb5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GSS_CHECKSUM = 0x8003, INTEGRITY = 32, DELEGATION = 1, LARGEST = 8192, FIXED = 24, OPTION = 4, AES = 18 };

/* libkrb5 has these, and no header of its own declares them. */
krb5_error_code krb5_encrypt_tkt_part(krb5_context, const krb5_keyblock *, krb5_ticket *);
krb5_error_code encode_krb5_ticket(const krb5_ticket *, krb5_data **);

static krb5_context context;

static void check(krb5_error_code code, const char *what)
{
    if (code != 0) {
        fprintf(stderr, "%s: %s\n", what, krb5_get_error_message(context, code));
        exit(1);
    }
}

static void print(const void *bytes, size_t length)
{
    for (size_t at = 0; at < length; at++)
        printf("%02x", ((const unsigned char *)bytes)[at]);
}

/* A ticket that the KDC gives. */
static krb5_creds *given(const char *service)
{
    krb5_ccache tickets;
    krb5_creds wanted, *ticket;

    memset(&wanted, 0, sizeof wanted);
    check(krb5_cc_default(context, &tickets), "tickets");
    check(krb5_cc_get_principal(context, tickets, &wanted.client), "client");
    check(krb5_parse_name(context, service, &wanted.server), "service");
    check(krb5_get_credentials(context, 0, tickets, &wanted, &ticket), "ticket");
    return ticket;
}

/* A ticket that is made here. */
static krb5_creds *forged(const char *keytab, const char *service, const char *client)
{
    static krb5_creds credential;
    krb5_keytab keys;
    krb5_keytab_entry key;
    krb5_enc_tkt_part part;
    krb5_ticket ticket;
    krb5_data *encoded;

    memset(&part, 0, sizeof part);
    memset(&ticket, 0, sizeof ticket);
    check(krb5_parse_name(context, service, &credential.server), "service");
    check(krb5_parse_name(context, client, &credential.client), "client");
    check(krb5_kt_resolve(context, keytab, &keys), "keytab");
    check(krb5_kt_get_entry(context, keys, credential.server, 0, AES, &key), "key");
    check(krb5_c_make_random_key(context, AES, &credential.keyblock), "session key");
    credential.times.authtime = credential.times.starttime = time(NULL);
    credential.times.endtime = credential.times.authtime + 3600;
    part.session = &credential.keyblock;
    part.client = credential.client;
    part.transited.tr_type = 1;
    part.times = credential.times;
    ticket.server = credential.server;
    ticket.enc_part.kvno = key.vno;
    ticket.enc_part2 = &part;
    check(krb5_encrypt_tkt_part(context, &key.key, &ticket), "encryption");
    check(encode_krb5_ticket(&ticket, &encoded), "encoding");
    credential.ticket = *encoded;
    return &credential;
}

int main(int count, char **arguments)
{
    /* The length of the bindings, and none. */
    unsigned char checksum[FIXED + OPTION + LARGEST] = {16};
    krb5_auth_context connection = NULL;
    krb5_creds *ticket;
    krb5_data request, data;

    check(krb5_init_context(&context), "context");
    checksum[20] = INTEGRITY;
    data.data = (char *)checksum;
    data.length = FIXED;
    if (count == 4 && strcmp(arguments[1], "handing-over") == 0 && strlen(arguments[3]) / 2 <= LARGEST) {
        size_t length = strlen(arguments[3]) / 2;
        checksum[20] |= DELEGATION;
        checksum[FIXED] = 1;
        checksum[FIXED + 2] = length & 0xff;
        checksum[FIXED + 3] = length >> 8;
        for (size_t at = 0; at < length; at++)
            sscanf(arguments[3] + 2 * at, "%2hhx", checksum + FIXED + OPTION + at);
        data.length = FIXED + OPTION + length;
        ticket = given(arguments[2]);
    } else if (count == 5 && strcmp(arguments[1], "forged") == 0) {
        ticket = forged(arguments[2], arguments[3], arguments[4]);
    } else {
        return 64;
    }
    check(krb5_auth_con_init(context, &connection), "connection");
    check(krb5_auth_con_setflags(context, connection, 0), "flags");
    check(krb5_auth_con_set_req_cksumtype(context, connection, GSS_CHECKSUM), "checksum");
    check(krb5_mk_req_extended(context, &connection, 0, &data, ticket, &request), "request");

    /* RFC 2743 3.1: the frame, Kerberos' identifier, and what kind of token it is. */
    unsigned char frame[] = {0x60, 0x82, 0, 0, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2, 1, 0};
    size_t inner = sizeof frame - 4 + request.length;
    frame[2] = inner >> 8;
    frame[3] = inner & 0xff;
    print(frame, sizeof frame);
    print(request.data, request.length);
    return 0;
}
