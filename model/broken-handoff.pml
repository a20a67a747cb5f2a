/* Breaks nobody_elses: a child renames its file over the path between the
 * parent's comparing and its unlinking. */
#define NO_HANDOFF
#define USERS 1
#define CHILDREN 1
#define ONLY P_nobody_elses
#include "acquire.pml"
