/* Breaks only_ours: a child renames its file over the path between the
 * parent's comparing and its unlinking. */
#define NO_HANDOFF
#define USERS 1
#define CHILDREN 1
#define ONLY P_only_ours
#include "acquire.pml"
