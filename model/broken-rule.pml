/* Breaks nobody_elses: the file of a live program that never locks is taken for
 * a left-over. */
#define NO_RULE
#define WRITER
#define USERS 1
#define ONLY P_nobody_elses
#include "acquire.pml"
