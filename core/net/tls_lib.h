/* SPDX-License-Identifier: MIT
 *
 * OpenSSL, loaded when the first TLS configuration is made: a program without TLS
 * needs none, and one that has it already (Python's ssl) gets no second one. The
 * functions are called through a table of pointers of the types that OpenSSL's
 * headers declare. Of these headers only functions may be used: a macro that calls
 * one would have to be linked.
 *
 * The table is written once, under a lock, and then only read: who has a
 * configuration came past that lock.
 */
#ifndef TDL_NET_TLS_LIB_H
#define TDL_NET_TLS_LIB_H

/* Without the headers of OpenSSL 3 the library is built without TLS. */
#if defined(__has_include)
#if __has_include(<openssl/ssl.h>) && __has_include(<openssl/configuration.h>)
#define TDL_HAVE_TLS 1
#endif
#endif

#ifdef TDL_HAVE_TLS

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

/* In libssl. */
#define TDL_LIBSSL(X)                                                                                       \
    X(OPENSSL_init_ssl) X(TLS_method) X(SSL_CTX_new) X(SSL_CTX_free) X(SSL_CTX_ctrl)                        \
    X(SSL_CTX_callback_ctrl) X(SSL_CTX_set_options) X(SSL_CTX_set_verify) X(SSL_CTX_use_certificate)        \
    X(SSL_CTX_use_PrivateKey) X(SSL_CTX_check_private_key) X(SSL_CTX_set_default_verify_paths)              \
    X(SSL_CTX_load_verify_dir) X(SSL_CTX_get_cert_store) X(SSL_CTX_set_cipher_list)                         \
    X(SSL_CTX_set_ciphersuites) X(SSL_CTX_set_alpn_protos) X(SSL_CTX_set_alpn_select_cb)                    \
    X(SSL_CTX_set_session_id_context) X(SSL_CTX_add_client_CA) X(SSL_CTX_set_num_tickets)                   \
    X(SSL_select_next_proto) X(SSL_new) X(SSL_free) X(SSL_set_bio) X(SSL_set_connect_state)                 \
    X(SSL_set_accept_state) X(SSL_do_handshake) X(SSL_read) X(SSL_peek) X(SSL_write) X(SSL_get_error) X(SSL_shutdown)   \
    X(SSL_has_pending) X(SSL_ctrl) X(SSL_get0_param) X(SSL_set_session) X(SSL_get1_session)                 \
    X(SSL_SESSION_free) X(SSL_SESSION_up_ref) X(SSL_SESSION_is_resumable) X(SSL_session_reused)             \
    X(SSL_get_version) X(SSL_version) X(SSL_get_current_cipher) X(SSL_CIPHER_get_name)                      \
    X(SSL_get0_alpn_selected) X(SSL_get_servername) X(SSL_get_verify_result) X(SSL_get1_peer_certificate)   \
    X(SSL_use_cert_and_key) X(SSL_CTX_get0_certificate) X(SSL_CTX_get0_privatekey) X(SSL_key_update)

/* In libcrypto. */
#define TDL_LIBCRYPTO(X)                                                                                    \
    X(OpenSSL_version) X(BIO_new) X(BIO_free) X(BIO_new_file) X(BIO_new_mem_buf) X(BIO_s_mem) X(BIO_ctrl)   \
    X(BIO_meth_new) X(BIO_meth_set_read) X(BIO_meth_set_write) X(BIO_meth_set_ctrl) X(BIO_get_new_index)    \
    X(BIO_set_data) X(BIO_get_data) X(BIO_set_init) X(BIO_set_flags) X(BIO_clear_flags) X(ERR_get_error)    \
    X(ERR_peek_error) X(ERR_peek_last_error) X(ERR_clear_error) X(ERR_reason_error_string)                  \
    X(PEM_read_bio_X509) X(PEM_read_bio_PrivateKey) X(PEM_write_bio_X509) X(EVP_PKEY_free) X(X509_free)     \
    X(X509_STORE_add_cert) X(X509_get_subject_name) X(X509_get_issuer_name) X(X509_NAME_print_ex)           \
    X(X509_verify_cert_error_string) X(X509_VERIFY_PARAM_set1_host) X(X509_VERIFY_PARAM_set1_ip_asc)        \
    X(X509_VERIFY_PARAM_set_hostflags)

struct tdl_openssl {
#define X(name) __typeof__(name) *name;
    TDL_LIBSSL(X) TDL_LIBCRYPTO(X)
#undef X
};

extern struct tdl_openssl tdl_ossl;

#endif /* TDL_HAVE_TLS */

#include <stddef.h>

/* Loads it, the first time. 0, or TDL_ENOTLS and why not. */
int tdl_tls_load(char *why, size_t size);

#endif
