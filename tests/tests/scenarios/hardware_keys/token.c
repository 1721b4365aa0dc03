/* SoftHSM, but for what files of a folder ask for:
 * session-lost        a signature fails once, as after a loss of the session, and the user is logged out
 * pin-changed         no PIN is right
 * made-and-failed     a key pair is made once, and the caller is told that the device failed
 * another-key         each signature is one of another message
 * Each attempt to log in is one byte of the file log-ins. */

#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long word;

/* CK_FUNCTION_LIST: a version, then the functions in the order of PKCS#11 v2.40, section 3.3. */
struct list {
	unsigned char version[2];
	void *functions[68];
};

enum { LOGIN = 18, LOGOUT = 19, SIGN = 43, GENERATE_KEY_PAIR = 59 };
enum { OK = 0, DEVICE_ERROR = 0x30, PIN_INCORRECT = 0xa0, SESSION_HANDLE_INVALID = 0xb3 };

static struct list *theirs;
static struct list ours;

static int asked(const char *path) { return access(path, F_OK) == 0; }
static int once(const char *path) { return unlink(path) == 0; }

static word login(word session, word user, unsigned char *pin, word length)
{
	int log = open(FOLDER "/log-ins", O_WRONLY | O_CREAT | O_APPEND, 0600);
	ssize_t written = write(log, ".", 1);
	close(log);
	if (written != 1)
		return DEVICE_ERROR;
	if (asked(FOLDER "/pin-changed"))
		return PIN_INCORRECT;
	return ((word (*)(word, word, unsigned char *, word))theirs->functions[LOGIN])(session, user, pin, length);
}

static word sign(word session, unsigned char *data, word length, unsigned char *signature, word *room)
{
	word (*real)(word, unsigned char *, word, unsigned char *, word *) = theirs->functions[SIGN];
	if (once(FOLDER "/session-lost")) {
		((word (*)(word))theirs->functions[LOGOUT])(session);
		return SESSION_HANDLE_INVALID;
	}
	/* The first of two calls asks for the length. */
	if (signature && length > 0 && asked(FOLDER "/another-key"))
		data[0] ^= 1;
	return real(session, data, length, signature, room);
}

static word generate(word session, void *mechanism, void *public, word publics, void *private, word privates,
		     word *public_key, word *private_key)
{
	word (*real)(word, void *, void *, word, void *, word, word *, word *) = theirs->functions[GENERATE_KEY_PAIR];
	word result = real(session, mechanism, public, publics, private, privates, public_key, private_key);
	if (result == OK && once(FOLDER "/made-and-failed"))
		return DEVICE_ERROR;
	return result;
}

word C_GetFunctionList(struct list **list)
{
	void *module = dlopen(MODULE, RTLD_NOW | RTLD_LOCAL);
	word (*real)(struct list **) = module ? dlsym(module, "C_GetFunctionList") : 0;
	if (!real || real(&theirs) != OK)
		return DEVICE_ERROR;
	memcpy(&ours, theirs, sizeof ours);
	ours.functions[LOGIN] = login;
	ours.functions[SIGN] = sign;
	ours.functions[GENERATE_KEY_PAIR] = generate;
	*list = &ours;
	return OK;
}
