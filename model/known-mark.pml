/*
 * Breaks honest_refusal: a flaw of the code, not of a variant. See README.md, "The
 * flaw that is known".
 */
#define KNOWN_MARK
#define FCNTL
#define USERS 2
#define ONLY P_honest_refusal
#include "acquire.pml"
