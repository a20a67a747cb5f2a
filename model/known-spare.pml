/*
 * Breaks one_holder: a flaw of the code, not of a variant. See README.md, "The
 * flaws that are known".
 */
#define KNOWN_SPARE
#define SHORT_WINDOW
#define USERS 2
#define RECORDS 1
#define REMOVALS 1
#define ONLY P_one_holder
#include "acquire.pml"
