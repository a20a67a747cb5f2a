/* Breaks only_ours: the file of a live program that never locks is taken for
 * a stale file. */
#define NO_RULE
#define WRITER
#define USERS 1
#define ONLY P_only_ours
#include "acquire.pml"
