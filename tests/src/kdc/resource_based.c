/* A database module for MIT's KDC: the directory's (kldap), and resource-based delegation beside it, which the KDC has and no
   module that comes with it. A string attribute of a service, `delegates`, names the principal that may act towards it. */

#include <dlfcn.h>
#include <string.h>

#include <kdb.h>

/* The KDC looks for this name when the file is loaded. */
kdb_vftabl kdb_function_table;

static krb5_error_code
allowed_to_delegate_from(krb5_context context, krb5_const_principal client, krb5_const_principal server,
                         krb5_pac server_pac, const krb5_db_entry *proxy)
{
    char *named = NULL, *asks = NULL;
    krb5_error_code result = KRB5KDC_ERR_BADOPTION;

    (void)client;
    (void)server_pac;
    if (krb5_dbe_get_string(context, (krb5_db_entry *)proxy, "delegates", &named) == 0 && named != NULL &&
        krb5_unparse_name(context, server, &asks) == 0 && strcmp(named, asks) == 0)
        result = 0;
    krb5_free_unparsed_name(context, asks);
    krb5_dbe_free_string(context, named);
    return result;
}

/* Without the directory's module the table stays empty, which the KDC refuses. */
__attribute__((constructor)) static void
begin(void)
{
    void *directory = dlopen(DIRECTORY_MODULE, RTLD_NOW);
    const kdb_vftabl *table = directory == NULL ? NULL : dlsym(directory, "kdb_function_table");

    if (table == NULL)
        return;
    kdb_function_table = *table;
    kdb_function_table.allowed_to_delegate_from = allowed_to_delegate_from;
}
