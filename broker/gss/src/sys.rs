//! Declares the part of MIT's GSSAPI that this crate calls, as `gssapi.h`, `gssapi_ext.h` and `gssapi_krb5.h` have it.
//!
//! Written by hand, since it is small and a generator would need libclang on every machine that builds. `abi.c` states the
//! same prototypes and layouts in C; the test `bindings_match_the_installed_headers` lets the C compiler compare them, and
//! the constants below, with the headers that are installed.

#![expect(non_camel_case_types, reason = "the names are those of the C headers")]
#![expect(
    unsafe_code,
    reason = "declares foreign functions; calling one is unsafe, where it is called"
)]

use std::ffi::{c_char, c_int, c_void};

/// Opaque: a name. `gss_name_t` points to it.
#[repr(C)]
pub(crate) struct gss_name_struct {
    private: [u8; 0],
}
/// Opaque: a credential.
#[repr(C)]
pub(crate) struct gss_cred_id_struct {
    private: [u8; 0],
}
/// Opaque: a security context.
#[repr(C)]
pub(crate) struct gss_ctx_id_struct {
    private: [u8; 0],
}

pub(crate) type gss_name_t = *mut gss_name_struct;
pub(crate) type gss_cred_id_t = *mut gss_cred_id_struct;
pub(crate) type gss_ctx_id_t = *mut gss_ctx_id_struct;
pub(crate) type gss_OID = *mut gss_OID_desc;
pub(crate) type gss_OID_set = *mut gss_OID_set_desc;
pub(crate) type gss_buffer_t = *mut gss_buffer_desc;
pub(crate) type gss_channel_bindings_t = *mut gss_channel_bindings_struct;

#[repr(C)]
pub(crate) struct gss_OID_desc {
    pub(crate) length: u32,
    pub(crate) elements: *mut c_void,
}

#[repr(C)]
pub(crate) struct gss_OID_set_desc {
    pub(crate) count: usize,
    pub(crate) elements: gss_OID,
}

#[repr(C)]
pub(crate) struct gss_buffer_desc {
    pub(crate) length: usize,
    pub(crate) value: *mut c_void,
}

#[repr(C)]
pub(crate) struct gss_channel_bindings_struct {
    pub(crate) initiator_addrtype: u32,
    pub(crate) initiator_address: gss_buffer_desc,
    pub(crate) acceptor_addrtype: u32,
    pub(crate) acceptor_address: gss_buffer_desc,
    pub(crate) application_data: gss_buffer_desc,
}

#[repr(C)]
pub(crate) struct gss_key_value_element_desc {
    pub(crate) key: *const c_char,
    pub(crate) value: *const c_char,
}

#[repr(C)]
pub(crate) struct gss_key_value_set_desc {
    pub(crate) count: u32,
    pub(crate) elements: *mut gss_key_value_element_desc,
}

/// The beginning of `gss_krb5_lucid_context_v1_t`, as far as it is read here: what follows are keys.
#[repr(C)]
pub(crate) struct lucid_context_v1_head {
    pub(crate) version: u32,
    pub(crate) initiate: u32,
    pub(crate) endtime: u32,
}

/// The beginning of `krb5_creds`, and room for the rest of it on every machine.
#[repr(C)]
pub(crate) struct krb5_creds {
    pub(crate) magic: c_int,
    pub(crate) client: *mut c_void,
    pub(crate) server: *mut c_void,
    pub(crate) rest: [usize; 29],
}

macro_rules! constants {
    ($($name:ident = $value:expr;)*) => {
        $(pub(crate) const $name: u32 = $value;)*
        /// Every constant with its name in C, for the comparison with the headers.
        #[cfg(test)]
        pub(crate) const CONSTANTS: &[(&str, u32)] = &[$((stringify!($name), $name),)*];
    };
}

/// Base of the krb5 error table, -1,765,328,384, as minor statuses carry it.
const KRB5: u32 = 0x96c7_3a00;
/// Base of the ASN.1 error table.
const ASN1: u32 = 1_859_794_432;

constants! {
    GSS_C_INITIATE = 1;
    GSS_C_ACCEPT = 2;
    GSS_C_GSS_CODE = 1;
    GSS_C_MECH_CODE = 2;
    GSS_C_AF_UNSPEC = 0;
    GSS_C_INDEFINITE = u32::MAX;
    GSS_C_DELEG_FLAG = 1;
    GSS_C_MUTUAL_FLAG = 2;
    GSS_C_INTEG_FLAG = 32;
    GSS_C_ANON_FLAG = 64;
    GSS_C_CHANNEL_BOUND_FLAG = 0x800;
    GSS_S_COMPLETE = 0;
    GSS_S_CONTINUE_NEEDED = 1;
    GSS_S_BAD_MECH = 1 << 16;
    GSS_S_BAD_NAME = 2 << 16;
    GSS_S_BAD_NAMETYPE = 3 << 16;
    GSS_S_BAD_BINDINGS = 4 << 16;
    GSS_S_BAD_MIC = 6 << 16;
    GSS_S_NO_CRED = 7 << 16;
    GSS_S_NO_CONTEXT = 8 << 16;
    GSS_S_DEFECTIVE_TOKEN = 9 << 16;
    GSS_S_DEFECTIVE_CREDENTIAL = 10 << 16;
    GSS_S_CREDENTIALS_EXPIRED = 11 << 16;
    GSS_S_CONTEXT_EXPIRED = 12 << 16;
    GSS_S_FAILURE = 13 << 16;
    GSS_S_UNAUTHORIZED = 15 << 16;
    GSS_S_UNAVAILABLE = 16 << 16;
    TKT_FLG_FORWARDABLE = 0x4000_0000;
    TKT_FLG_FORWARDED = 0x2000_0000;
    TKT_FLG_INITIAL = 0x0040_0000;
    TKT_FLG_PRE_AUTH = 0x0020_0000;
    TKT_FLG_HW_AUTH = 0x0010_0000;
    KRB5KDC_ERR_NAME_EXP = KRB5 + 1;
    KRB5KDC_ERR_SERVICE_EXP = KRB5 + 2;
    KRB5KDC_ERR_C_PRINCIPAL_UNKNOWN = KRB5 + 6;
    KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN = KRB5 + 7;
    KRB5KDC_ERR_POLICY = KRB5 + 12;
    KRB5KDC_ERR_BADOPTION = KRB5 + 13;
    KRB5KDC_ERR_ETYPE_NOSUPP = KRB5 + 14;
    KRB5KDC_ERR_PADATA_TYPE_NOSUPP = KRB5 + 16;
    KRB5KDC_ERR_CLIENT_REVOKED = KRB5 + 18;
    KRB5KDC_ERR_SERVICE_REVOKED = KRB5 + 19;
    KRB5KDC_ERR_CLIENT_NOTYET = KRB5 + 21;
    KRB5KDC_ERR_KEY_EXP = KRB5 + 23;
    KRB5KDC_ERR_PREAUTH_FAILED = KRB5 + 24;
    KRB5KDC_ERR_MUST_USE_USER2USER = KRB5 + 27;
    KRB5KDC_ERR_SVC_UNAVAILABLE = KRB5 + 29;
    KRB5KRB_AP_ERR_BAD_INTEGRITY = KRB5 + 31;
    KRB5KRB_AP_ERR_TKT_EXPIRED = KRB5 + 32;
    KRB5KRB_AP_ERR_TKT_NYV = KRB5 + 33;
    KRB5KRB_AP_ERR_REPEAT = KRB5 + 34;
    KRB5KRB_AP_ERR_NOT_US = KRB5 + 35;
    KRB5KRB_AP_ERR_BADMATCH = KRB5 + 36;
    KRB5KRB_AP_ERR_SKEW = KRB5 + 37;
    KRB5KRB_AP_ERR_BADVERSION = KRB5 + 39;
    KRB5KRB_AP_ERR_MSG_TYPE = KRB5 + 40;
    KRB5KRB_AP_ERR_MODIFIED = KRB5 + 41;
    KRB5KRB_AP_ERR_ILL_CR_TKT = KRB5 + 43;
    KRB5KRB_AP_ERR_BADKEYVER = KRB5 + 44;
    KRB5KRB_AP_ERR_NOKEY = KRB5 + 45;
    KRB5KRB_AP_ERR_MUT_FAIL = KRB5 + 46;
    KRB5KRB_ERR_GENERIC = KRB5 + 60;
    KRB5KDC_ERR_WRONG_REALM = KRB5 + 68;
    KRB5KRB_AP_WRONG_PRINC = KRB5 + 144;
    KRB5KRB_AP_ERR_TKT_INVALID = KRB5 + 145;
    KRB5_KDCREP_MODIFIED = KRB5 + 147;
    KRB5_KDCREP_SKEW = KRB5 + 148;
    KRB5_REALM_UNKNOWN = KRB5 + 154;
    KRB5_KDC_UNREACH = KRB5 + 156;
    KRB5_MUTUAL_FAILED = KRB5 + 158;
    KRB5_KT_NOTFOUND = KRB5 + 181;
    KRB5_BAD_ENCTYPE = KRB5 + 188;
    KRB5_REALM_CANT_RESOLVE = KRB5 + 220;
    KRB5_TKT_NOT_FORWARDABLE = KRB5 + 221;
    KRB5_KT_KVNONOTFOUND = KRB5 + 230;
    KRB5_NOPERM_ETYPE = KRB5 + 236;
    ASN1_BAD_TIMEFORMAT = ASN1;
    ASN1_MISSING_FIELD = ASN1 + 1;
    ASN1_MISPLACED_FIELD = ASN1 + 2;
    ASN1_TYPE_MISMATCH = ASN1 + 3;
    ASN1_OVERFLOW = ASN1 + 4;
    ASN1_OVERRUN = ASN1 + 5;
    ASN1_BAD_ID = ASN1 + 6;
    ASN1_BAD_LENGTH = ASN1 + 7;
    ASN1_BAD_FORMAT = ASN1 + 8;
    ASN1_PARSE_ERROR = ASN1 + 9;
    ASN1_BAD_GMTIME = ASN1 + 10;
    ASN1_INDEF = ASN1 + 11;
    ASN1_MISSING_EOC = ASN1 + 12;
    ASN1_OMITTED = ASN1 + 13;
}

/// Codes of the tables `ggss` and `k5g`, which are in no installed header. The numbers of a table follow from its name
/// (`compile_et`), which a test computes.
pub(crate) const G_WRONG_MECH: u32 = GGSS + 11;
pub(crate) const G_BAD_TOK_HEADER: u32 = GGSS + 12;
pub(crate) const G_TOK_TRUNC: u32 = GGSS + 14;
pub(crate) const G_WRONG_TOKID: u32 = GGSS + 16;
pub(crate) const KG_BAD_LENGTH: u32 = K5G + 6;
const GGSS: u32 = 0x861b_6d00;
const K5G: u32 = 0x025e_a100;

unsafe extern "C" {
    pub(crate) fn gss_import_name(
        minor: *mut u32,
        buffer: gss_buffer_t,
        name_type: gss_OID,
        name: *mut gss_name_t,
    ) -> u32;
    pub(crate) fn gss_display_name(
        minor: *mut u32,
        name: gss_name_t,
        buffer: gss_buffer_t,
        name_type: *mut gss_OID,
    ) -> u32;
    pub(crate) fn gss_localname(
        minor: *mut u32,
        name: gss_name_t,
        mechanism: *const gss_OID_desc,
        local: gss_buffer_t,
    ) -> u32;
    pub(crate) fn gss_get_name_attribute(
        minor: *mut u32,
        name: gss_name_t,
        attribute: gss_buffer_t,
        authenticated: *mut c_int,
        complete: *mut c_int,
        value: gss_buffer_t,
        display_value: gss_buffer_t,
        more: *mut c_int,
    ) -> u32;
    pub(crate) fn gss_release_name(minor: *mut u32, name: *mut gss_name_t) -> u32;
    pub(crate) fn gss_release_buffer(minor: *mut u32, buffer: gss_buffer_t) -> u32;
    pub(crate) fn gss_display_status(
        minor: *mut u32,
        status: u32,
        status_type: c_int,
        mechanism: gss_OID,
        message_context: *mut u32,
        text: gss_buffer_t,
    ) -> u32;
    pub(crate) fn gss_acquire_cred_from(
        minor: *mut u32,
        name: gss_name_t,
        time_req: u32,
        mechanisms: gss_OID_set,
        usage: c_int,
        store: *const gss_key_value_set_desc,
        credential: *mut gss_cred_id_t,
        actual_mechanisms: *mut gss_OID_set,
        time_rec: *mut u32,
    ) -> u32;
    pub(crate) fn gss_acquire_cred_impersonate_name(
        minor: *mut u32,
        impersonator: gss_cred_id_t,
        name: gss_name_t,
        time_req: u32,
        mechanisms: gss_OID_set,
        usage: c_int,
        credential: *mut gss_cred_id_t,
        actual_mechanisms: *mut gss_OID_set,
        time_rec: *mut u32,
    ) -> u32;
    pub(crate) fn gss_set_neg_mechs(minor: *mut u32, credential: gss_cred_id_t, mechanisms: gss_OID_set) -> u32;
    pub(crate) fn gss_inquire_cred(
        minor: *mut u32,
        credential: gss_cred_id_t,
        name: *mut gss_name_t,
        lifetime: *mut u32,
        usage: *mut c_int,
        mechanisms: *mut gss_OID_set,
    ) -> u32;
    pub(crate) fn gss_release_cred(minor: *mut u32, credential: *mut gss_cred_id_t) -> u32;
    pub(crate) fn gss_accept_sec_context(
        minor: *mut u32,
        context: *mut gss_ctx_id_t,
        credential: gss_cred_id_t,
        input: gss_buffer_t,
        bindings: gss_channel_bindings_t,
        source: *mut gss_name_t,
        mechanism: *mut gss_OID,
        output: gss_buffer_t,
        flags: *mut u32,
        lifetime: *mut u32,
        delegated: *mut gss_cred_id_t,
    ) -> u32;
    pub(crate) fn gss_init_sec_context(
        minor: *mut u32,
        credential: gss_cred_id_t,
        context: *mut gss_ctx_id_t,
        target: gss_name_t,
        mechanism: gss_OID,
        flags: u32,
        time_req: u32,
        bindings: gss_channel_bindings_t,
        input: gss_buffer_t,
        actual_mechanism: *mut gss_OID,
        output: gss_buffer_t,
        actual_flags: *mut u32,
        lifetime: *mut u32,
    ) -> u32;
    pub(crate) fn gss_inquire_context(
        minor: *mut u32,
        context: gss_ctx_id_t,
        source: *mut gss_name_t,
        target: *mut gss_name_t,
        lifetime: *mut u32,
        mechanism: *mut gss_OID,
        flags: *mut u32,
        locally_initiated: *mut c_int,
        open: *mut c_int,
    ) -> u32;
    pub(crate) fn gss_get_mic(
        minor: *mut u32,
        context: gss_ctx_id_t,
        qop: u32,
        message: gss_buffer_t,
        token: gss_buffer_t,
    ) -> u32;
    pub(crate) fn gss_delete_sec_context(minor: *mut u32, context: *mut gss_ctx_id_t, output: gss_buffer_t) -> u32;
    pub(crate) fn gsskrb5_extract_authtime_from_sec_context(
        minor: *mut u32,
        context: gss_ctx_id_t,
        auth_time: *mut i32,
    ) -> u32;
    pub(crate) fn gss_krb5_get_tkt_flags(minor: *mut u32, context: gss_ctx_id_t, flags: *mut i32) -> u32;
    pub(crate) fn gss_krb5_export_lucid_sec_context(
        minor: *mut u32,
        context: *mut gss_ctx_id_t,
        version: u32,
        lucid: *mut *mut c_void,
    ) -> u32;
    pub(crate) fn gss_krb5_free_lucid_sec_context(minor: *mut u32, lucid: *mut c_void) -> u32;
    pub(crate) fn krb5_init_context(context: *mut *mut c_void) -> c_int;
    pub(crate) fn krb5_free_context(context: *mut c_void);
    pub(crate) fn krb5_cc_default_name(context: *mut c_void) -> *const c_char;
    pub(crate) fn krb5_parse_name(context: *mut c_void, name: *const c_char, principal: *mut *mut c_void) -> c_int;
    pub(crate) fn krb5_free_creds(context: *mut c_void, credential: *mut krb5_creds);
    pub(crate) fn calloc(count: usize, size: usize) -> *mut c_void;
    pub(crate) fn free(memory: *mut c_void);
    pub(crate) fn dlsym(scope: *mut c_void, name: *const c_char) -> *mut c_void;
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::process::Command;

    use super::*;

    /// Runs the C compiler, for syntax only, over `abi.c` followed by `more`; its complaint, if it has one.
    fn compile(more: &str) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("check.c");
        std::fs::write(
            &file,
            format!("#include \"{}/abi.c\"\n{more}", env!("CARGO_MANIFEST_DIR")),
        )
        .unwrap();
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let output = Command::new(compiler)
            .args(["-fsyntax-only", "-Wall", "-Werror"])
            .arg(&file)
            .output()
            .unwrap();
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn assertion(name: &str, value: u32) -> String {
        format!("_Static_assert((OM_uint32)({name}) == {value}u, \"{name}\");\n")
    }

    #[test]
    fn bindings_match_the_installed_headers() {
        let mut constants = String::new();
        for (name, value) in CONSTANTS {
            constants.write_str(&assertion(name, *value)).unwrap();
        }
        compile(&constants).unwrap();
    }

    #[test]
    fn a_binding_that_has_drifted_does_not_compile() {
        let wrong = [
            assertion("GSS_S_FAILURE", GSS_S_BAD_MECH),
            "PROTOTYPE(gss_release_name, OM_uint32 *, gss_name_t);".to_owned(),
            "OFFSET(gss_krb5_lucid_context_v1_t, endtime, 4);".to_owned(),
        ];
        for wrong in wrong {
            assert!(
                compile(&wrong).is_err_and(|complaint| complaint.contains("static assertion failed")),
                "{wrong}"
            );
        }
    }

    /// The base of an error table, as `compile_et` makes it of the name: six bits a letter, and eight for the code.
    fn base(name: &str) -> u32 {
        const LETTERS: &str = "?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
        let number = |letter| u32::try_from(LETTERS.find(letter).unwrap()).unwrap();
        name.chars().fold(0, |base, letter| (base << 6) | number(letter)) << 8
    }

    #[test]
    fn error_tables_have_the_bases_that_their_names_give() {
        assert_eq!(
            [base("krb5"), base("asn1"), base("ggss"), base("k5g")],
            [KRB5, ASN1, GGSS, K5G]
        );
    }

    #[test]
    fn every_foreign_function_has_its_prototype_in_c() {
        let c = include_str!("../abi.c");
        let functions: Vec<_> = include_str!("sys.rs")
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub(crate) fn "))
            .filter_map(|line| line.split('(').next())
            .collect();
        assert!(functions.len() > 15, "{functions:?}");
        for function in functions {
            let is_stated = ["PROTOTYPE", "FUNCTION"].map(|word| c.contains(&format!("{word}({function},")));
            assert!(is_stated.contains(&true), "{function}");
        }
    }

    #[test]
    fn layouts_are_those_that_abi_c_states() {
        const POINTER: usize = size_of::<usize>();
        assert_eq!(size_of::<gss_OID_desc>(), 2 * POINTER);
        assert_eq!(size_of::<gss_OID_set_desc>(), 2 * POINTER);
        assert_eq!(size_of::<krb5_creds>(), 32 * POINTER);
        assert_eq!(std::mem::offset_of!(krb5_creds, server), 2 * POINTER);
        assert_eq!(size_of::<gss_buffer_desc>(), 2 * POINTER);
        assert_eq!(size_of::<gss_channel_bindings_struct>(), 8 * POINTER);
        assert_eq!(
            std::mem::offset_of!(gss_channel_bindings_struct, initiator_address),
            POINTER
        );
        assert_eq!(
            std::mem::offset_of!(gss_channel_bindings_struct, acceptor_addrtype),
            3 * POINTER
        );
        assert_eq!(
            std::mem::offset_of!(gss_channel_bindings_struct, application_data),
            6 * POINTER
        );
        assert_eq!(size_of::<gss_key_value_element_desc>(), 2 * POINTER);
        assert_eq!(size_of::<gss_key_value_set_desc>(), 2 * POINTER);
        assert_eq!(std::mem::offset_of!(lucid_context_v1_head, endtime), 8);
    }
}
