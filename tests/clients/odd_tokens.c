/*
 * Prints, in hexadecimal, Kerberos tokens that no client makes, with the tickets of KRB5CCNAME or none:
 *
 *   odd_tokens handing-over SERVICE KRB-CRED   hands over a KRB-CRED (in hexadecimal, well-formed or not; RFC 4121 4.1.1.1)
 *   odd_tokens forged KEYTAB SERVICE CLIENT    with a ticket for CLIENT that is made here, by the service's own key
 *   odd_tokens with-mic SERVICE MESSAGE        wants mutual authentication, and has beside the token, behind a space, a MIC over
 *                                              MESSAGE (in hexadecimal) that it makes before the answer is there (RFC 4121 4.2.6.1)
 */
#include <krb5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GSS_CHECKSUM = 0x8003, INTEGRITY = 32, DELEGATION = 1, MUTUAL = 2 };
enum { LARGEST = 8192, FIXED = 24, OPTION = 4, MIC_HEADER = 16, AES = 18, INITIATOR_SIGN = 25 };

/* libkrb5 has these, and no header of its own declares them. */
krb5_error_code krb5_encrypt_tkt_part(krb5_context, const krb5_keyblock *, krb5_ticket *);
krb5_error_code encode_krb5_ticket(const krb5_ticket *, krb5_data **);
krb5_error_code krb5int_c_mandatory_cksumtype(krb5_context, krb5_enctype, krb5_cksumtype *);

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

static size_t read_hexadecimal(const char *text, unsigned char *bytes)
{
    size_t length = strlen(text) / 2;

    if (length > LARGEST)
        exit(64);
    for (size_t at = 0; at < length; at++)
        sscanf(text + 2 * at, "%2hhx", bytes + at);
    return length;
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

/* By the subkey that the client has put into its authenticator. */
static void print_mic(krb5_auth_context connection, const char *message)
{
    unsigned char text[LARGEST + MIC_HEADER];
    size_t length = read_hexadecimal(message, text);
    unsigned char *header = text + length;
    krb5_keyblock *key;
    krb5_int32 sequence;
    krb5_checksum checksum;
    krb5_cksumtype type;
    krb5_data data;

    check(krb5_auth_con_getsendsubkey(context, connection, &key), "subkey");
    check(krb5_auth_con_getlocalseqnumber(context, connection, &sequence), "sequence number");
    memset(header, 0xff, MIC_HEADER);
    header[0] = header[1] = 4;
    header[2] = 0;
    memset(header + 8, 0, 4);
    for (int at = 0; at < 4; at++)
        header[12 + at] = (unsigned)sequence >> (24 - 8 * at) & 0xff;
    data.data = (char *)text;
    data.length = length + MIC_HEADER;
    check(krb5int_c_mandatory_cksumtype(context, key->enctype, &type), "checksum type");
    check(krb5_c_make_checksum(context, type, key, INITIATOR_SIGN, &data, &checksum), "MIC");
    print(header, MIC_HEADER);
    print(checksum.contents, checksum.length);
}

int main(int count, char **arguments)
{
    /* The length of the bindings, and none. */
    unsigned char checksum[FIXED + OPTION + LARGEST] = {16};
    krb5_auth_context connection = NULL;
    krb5_creds *ticket;
    krb5_data request, data;
    krb5_flags options = 0, flags = 0;

    check(krb5_init_context(&context), "context");
    checksum[20] = INTEGRITY;
    data.data = (char *)checksum;
    data.length = FIXED;
    if (count == 4 && strcmp(arguments[1], "handing-over") == 0) {
        size_t length = read_hexadecimal(arguments[3], checksum + FIXED + OPTION);
        checksum[20] |= DELEGATION;
        checksum[FIXED] = 1;
        checksum[FIXED + 2] = length & 0xff;
        checksum[FIXED + 3] = length >> 8;
        data.length = FIXED + OPTION + length;
        ticket = given(arguments[2]);
    } else if (count == 4 && strcmp(arguments[1], "with-mic") == 0) {
        checksum[20] |= MUTUAL;
        options = AP_OPTS_MUTUAL_REQUIRED | AP_OPTS_USE_SUBKEY;
        flags = KRB5_AUTH_CONTEXT_DO_SEQUENCE;
        ticket = given(arguments[2]);
    } else if (count == 5 && strcmp(arguments[1], "forged") == 0) {
        ticket = forged(arguments[2], arguments[3], arguments[4]);
    } else {
        return 64;
    }
    check(krb5_auth_con_init(context, &connection), "connection");
    check(krb5_auth_con_setflags(context, connection, flags), "flags");
    check(krb5_auth_con_set_req_cksumtype(context, connection, GSS_CHECKSUM), "checksum");
    check(krb5_mk_req_extended(context, &connection, options, &data, ticket, &request), "request");

    /* RFC 2743 3.1: the frame, Kerberos' identifier, and what kind of token it is. */
    unsigned char frame[] = {0x60, 0x82, 0, 0, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2, 1, 0};
    size_t inner = sizeof frame - 4 + request.length;
    frame[2] = inner >> 8;
    frame[3] = inner & 0xff;
    print(frame, sizeof frame);
    print(request.data, request.length);
    if (options != 0) {
        putchar(' ');
        print_mic(connection, arguments[3]);
    }
    return 0;
}
