/*
 * The protocol of package internal/lock, for spin (https://spinroot.com).
 * README.md says what is modelled, what is left out and which step is which
 * function; "bash run" checks it. The inlines bear the names of the Go functions.
 * A STEP is a system call, unless the README says otherwise, and before each of
 * them a process may be killed.
 *
 * A file that includes this one may set the sizes, or leave a step out.
 */

/* Sizes. */
#ifndef USERS
#define USERS 2			/* processes that use the library, 3 at most */
#endif
#ifndef ROUNDS
#define ROUNDS 1		/* calls of Acquire or AcquireContext in each */
#endif
#ifndef CRASHES
#define CRASHES 0		/* SIGKILLs, of anybody, at any step */
#endif
#ifndef CANCELS
#define CANCELS 0		/* contexts that end during a wait */
#endif
#ifndef RECORDS
#define RECORDS 0		/* calls of SetPID */
#endif
#ifndef REMOVALS
#define REMOVALS 0		/* times that the file is removed by hand */
#endif
#ifndef CHILDREN
#define CHILDREN 0		/* children that process 1 hands its file to, 2 at most */
#endif
#ifndef WAITERS
#define WAITERS 0		/* goroutines of one more process that wait, 3 at most */
#endif
#ifndef KEEP
#define KEEP 2			/* maxOld of lock.go, 1 or 2 */
#endif
/*
 * Who else is there: FLOCKER, WRITER, FCNTL, CLEANER, INPLACE. COMMAND: the child is
 * one that inherits the lock and never adopts. SHORT_WINDOW: see enter_window.
 */

#if defined(FLOCKER) || defined(WRITER) || defined(FCNTL) || REMOVALS
#define STRANGERS
#endif
#if defined(STRANGERS) || defined(INPLACE) || defined(FCNTL)
#define FOREIGN
#endif

/* Who is who. 1 to USERS are the users. */
#define LATE		(USERS+1)	/* starts when all others are done */
#define CHILD		(USERS+2)	/* the first child, or the process of the WAITERS */
#define SHARED		(USERS+4)	/* the open file description that children inherit */
#define STRANGER	(USERS+5)	/* a program that takes locks of its own */
#define CLEANER_ID	(USERS+6)
#define WAITER(w)	(USERS+6+(w))

/* Texts. */
#define NOTEXT		0		/* empty or half written */
#define PIDS		(USERS+1)	/* 1 to PIDS: those of users; one more than users */
#define WORKER		(PIDS+1)	/* a process that was recorded and has ended */
#define CHILDPID(c)	(PIDS+2+(c)-CHILD)
#define WRITERPID	(PIDS+4)	/* a program that never locks */

/* What a function returns. */
#define OK	1
#define NOENT	2
#define AGAIN	3		/* errAgain */
#define HELD	4		/* a Refusal */
#define CHANGED	5		/* ErrChanged */
#define LEFT	6		/* no process waits any more; nothing is left to release */
#define FAILED	7		/* another error */

/*
 * The kernel. A file is a number, 0 is none. A number is used again when the
 * file has neither a name nor an open description, as inode numbers are.
 */
#define FILES 8
byte path, spare;		/* which files the two names name */
byte refs[FILES+1];		/* open file descriptions */
byte lock[FILES+1];		/* who has the flock, 0 if no process has */
byte text[FILES+1];
bit stale[FILES+1];		/* the process that has the PID now is younger than the text */
bit alive[PIDS+5];		/* which PIDs have a process */
#ifdef FCNTL
byte ofd[FILES+1];		/* who has the fcntl write lock */
byte reads[FILES+1];		/* how many have an fcntl read lock */
byte takings;			/* how often anybody took anything */
byte fcntled;			/* the file that a stranger has locked so */
#endif
#ifdef FOREIGN
bit foreign[FILES+1];		/* not only complete from the start: a stranger wrote it, or it was taken in place */
#define BORN(i) (!foreign[i])
#else
#define BORN(i) true
#endif
#if CHILDREN
byte inherited, sharers;	/* the file that SHARED is open on, and how many have it */
byte handoff;			/* who has the hand-off lock */
byte state, statepid;		/* what its file says */
#define UNCLAIMED 0
#define REPLACED 1
#define INSTEAD 2		/* "shared" */
bit through;			/* the parent has come to its end */
bit bereft;			/* a holder was killed */
#endif

/* Budgets; how many there are, and how many are done. */
byte crashes = CRASHES;
byte cancels = CANCELS;
byte records = RECORDS;
byte removals = REMOVALS;
byte forks = CHILDREN;
byte ended, total = USERS;

/*
 * What is checked. The holder is who has the path: from the instant at which the
 * path names its file to that at which its Release removes the name. Whoever
 * lost the file to a stranger is no holder any more, unless Restore succeeds.
 */
byte holder, file;
byte recorder;			/* whose file the spare name names */
#ifdef STRANGERS
byte windows, changes;		/* see enter_window */
#endif
#ifdef FLOCKER
byte flocked;			/* the file that flock(1) has locked */
#define FLOCKED flocked
#else
#define FLOCKED 0
#endif
#ifdef FCNTL
#define FCNTLED fcntled
#else
#define FCNTLED 0
#endif
#ifdef WRITER
byte written;			/* the file of a live program that never locks */
#define WRITTEN written
#else
#define WRITTEN 0
#endif

/*
 * The properties. They are constants, 0, so that an assertion that fails has a
 * name. ONLY leaves all others out.
 */
hidden byte one_holder, whole_text, only_ours, still_there, can_start, honest_refusal, out_of_files;
#define P_one_holder 1
#define P_whole_text 2
#define P_only_ours 3
#define P_still_there 4
#define P_can_start 5
#define P_honest_refusal 6
#define P_out_of_files 7
#define P_no_deadlock 8
#ifndef ONLY
#define ONLY 0
#endif
#define LEFT_OUT(property) (ONLY != 0 && ONLY != P_##property)
#define MUST(condition, property) if :: (condition) || LEFT_OUT(property) :: else -> assert(property) fi

/*
 * Between our comparing the path and our changing it, nothing keeps out a
 * program that does not look at the lock (docs/DESIGN.md, "What is not
 * promised"). Those programs, and only those, wait here until the window closes.
 * The code compares twice. With SHORT_WINDOW they wait only from the second time.
 */
#ifdef STRANGERS
inline enter_window() { if :: window :: else -> window = 1; windows++ fi }
inline enter_change() { enter_window(); change = 1; changes++ }
inline leave_window() {
	if :: window -> window = 0; windows-- :: else fi;
	if :: change -> change = 0; changes-- :: else fi
}
#if defined(IN_THE_WINDOW)
#define NO_WINDOW true
#elif defined(SHORT_WINDOW)
#define NO_WINDOW (changes == 0)
#else
#define NO_WINDOW (windows == 0)
#endif
#else
inline enter_window() { skip }
inline enter_change() { skip }
inline leave_window() { skip }
#endif

/* A system call. */
#define STEP(...) if :: atomic { __VA_ARGS__ } :: KILLED fi
#define KILLED atomic { mortal && crashes > 0 -> die(); goto died }

inline die() {
	printf("%d: killed\n", me);
	crashes--;
#if CHILDREN
	if :: holder == me -> bereft = 1 :: else fi;
#endif
	if :: holder == me -> holder = 0; file = 0 :: else fi;
	if :: recorder == me -> recorder = 0 :: else fi;
	leave_window();
	r = 0
}

/* What every process has. */
#define LOCALS \
	byte fd, hold, next, old0, old1; \
	byte said;		/* h.text */ \
	byte r, x; \
	byte mypid; \
	bit mortal; \
	bit window, change; \
	bit reading;		/* has an fcntl read lock on fd */ \
	bit sharing;		/* has SHARED open */ \
	bit handed;		/* h.handoff */ \
	bit inplace;		/* cannot make files */ \
	bit locked, seen; byte before; \
	byte first KEPT

/* Restore: the file that was held, until the one that takes its place is. */
#if REMOVALS
#define KEPT ; byte kept
#else
#define KEPT
#endif

#define used(i)	(refs[i] != 0 || path == (i) || spare == (i))
#define UNUSED	(!used(1) -> 1 : (!used(2) -> 2 : (!used(3) -> 3 : (!used(4) -> 4 : (!used(5) -> 5 : (!used(6) -> 6 : (!used(7) -> 7 : 8)))))))

inline new_file(f) { f = UNUSED; MUST(!used(f), out_of_files); refs[f]++ }

#ifdef FCNTL
#define set_ofd(f) ofd[f] = me
#else
#define set_ofd(f) skip
#endif

inline forget(i) {		/* its last name or descriptor may have gone */
	if
	:: i != 0 && !used(i) ->
		lock[i] = 0; text[i] = NOTEXT; stale[i] = 0;
#ifdef FOREIGN
		foreign[i] = 0;
#endif
	:: else
	fi
}

#if CHILDREN
#define SHARES(f) (sharing && (f) == inherited)
#define OWN(f) (SHARES(f) -> SHARED : me)
#else
#define OWN(f) me
#endif

inline unlock(f) { if :: lock[f] == OWN(f) -> lock[f] = 0 :: else fi }

inline close_fd(f) {		/* the last close of a description ends its locks */
#if CHILDREN
	if
	:: SHARES(f) ->
		sharing = 0; sharers--;
		if
		:: sharers == 0 -> inherited = 0; if :: lock[f] == SHARED -> lock[f] = 0 :: else fi; refs[f]--
		:: else
		fi
	:: else -> unlock(f); refs[f]--
	fi;
#else
	unlock(f); refs[f]--;
#endif
#ifdef FCNTL
	if :: ofd[f] == me -> ofd[f] = 0 :: else fi;
#endif
	forget(f); f = 0
}

inline unlockAndClose(f) { printf("%d: unlocks and closes file %d\n", me, f); unlock(f); close_fd(f) }

/* Whether the path's file may go, as far as anybody but g is concerned. */
#define MAY_GO(g) (!(holder != 0 && holder != (g) && file == path) && FLOCKED != path && WRITTEN != path && FCNTLED != path)

inline unlink_path(g) {
	if
	:: path != 0 -> MUST(MAY_GO(g), only_ours); x = path; path = 0; forget(x); x = 0
	:: else		/* ENOENT is fine */
	fi
}

inline unlink_spare() {
	MUST(recorder == 0 || recorder == me, only_ours);
	x = spare; spare = 0; forget(x); x = 0
}

inline takes(g, f) {
	MUST(holder == 0, one_holder);
	holder = g; file = f;
#ifdef FCNTL
	takings++;
#endif
}

inline takes_leave(g) { if :: holder == g -> holder = 0; file = 0 :: else fi }

/* The rule for programs that never lock: Config.running in pidfile.go. */
#define RUNNING(i) (text[i] != NOTEXT && text[i] != WORKER && text[i] != mypid && alive[text[i]] && !stale[i])

/* verifyPath */
#ifdef NO_COMPARE
#define STILL(i) (path != 0)
#else
#define STILL(i) (path == (i))
#endif

/* Check: the path names our file, and the text is ours. */
#ifdef NO_TEXT_CHECK
#define CHECK(i) (path == (i))
#else
#define CHECK(i) (path == (i) && text[i] == said)
#endif

/*
 * Hold.ours: Release removes a text that names no live process, too, if only we may
 * write the file.
 */
#ifdef WRITER
#define OWNERLESS(i) (path == (i) && text[i] != said && (text[i] == NOTEXT || !alive[text[i]]))
#endif

#ifdef FCNTL
/* ofdLocked: read locks do not count. */
#ifdef READS_COUNT
#define OFD_LOCKED(i) (ofd[i] != 0 || reads[i] != 0)
#else
#define OFD_LOCKED(i) (ofd[i] != 0)
#endif
/* What COMMAND has of the file, besides flock: a read lock on one byte. */
#if CHILDREN && !defined(NO_HEIRS)
#define OFD_INHERITED(i) (inherited == (i))
#else
#define OFD_INHERITED(i) false
#endif
#endif

/* ---- acquire.go, claim.go, hold.go ---- */

inline open() {
	STEP(
		if
		:: path == 0 -> printf("%d: opens: no file\n", me); r = NOENT
		:: else -> fd = path; refs[fd]++; printf("%d: opens file %d\n", me, fd); r = OK
		fi)
}

inline attempt(g) {
	open();
	if
	:: r == NOENT -> createNew(g)
	:: else ->
		STEP(
			if
			:: lock[fd] == 0 -> lock[fd] = me; printf("%d: locks file %d\n", me, fd)
			:: else ->
				printf("%d: file %d is locked\n", me, fd);
#ifdef FCNTL
				locked = OFD_LOCKED(fd);
#endif
				refused(); r = HELD
			fi);
		if
		:: r == OK -> decide(g, mypid); if :: fd != 0 -> STEP(unlockAndClose(fd)) :: else fi
		:: else
		fi
	fi
}

inline refused() {
#ifdef WAIT_ON_OLDER
	if :: first == 0 -> first = fd; fd = 0 :: else -> close_other(fd) fi
#else
	close_other(fd)
#endif
}

inline close_other(f) { refs[f]--; forget(f); f = 0 }	/* a descriptor that has no lock */

/* decide decides about fd, which we have locked. */
inline decide(g, as) {
	STEP(
		if
		:: !STILL(fd) -> printf("%d: file %d is not the path's\n", me, fd); r = AGAIN
		:: else -> printf("%d: file %d is the path's\n", me, fd); enter_window(); r = OK
		fi);
	if
	:: r == OK ->
		STEP(
			if
#ifdef FCNTL
			:: OFD_LOCKED(fd) -> leave_window(); locked = 1; r = HELD
#endif
#ifndef NO_RULE
			:: RUNNING(fd) -> leave_window(); printf("%d: PID %d is running\n", me, text[fd]); locked = 0; r = HELD
#endif
			:: else
			fi);
		if
		:: r == OK -> replace(g, as)
		:: else
		fi
	:: else
	fi
}

inline replace(g, as) {
#ifdef INPLACE
	if
	:: inplace -> leave_window(); inPlace(g)
	:: else -> replaceStale(g, as)
	fi
#else
	replaceStale(g, as)
#endif
}

/* replaceStale replaces fd by a file of ours. The lock on fd guards the spare name. */
inline replaceStale(g, as) {
#ifdef SPARE_UNGUARDED
	STEP(printf("%d: unlocks file %d\n", me, fd); unlock(fd));
#endif
	createSpare(as);
	if
	:: r == OK ->
		STEP(
			if
			:: STILL(fd) -> enter_change(); r = OK
			:: else -> printf("%d: file %d is not the path's any more\n", me, fd); r = AGAIN
			fi);
		if
		:: r == OK ->
#ifdef SPARE_REMOVED
			if
			:: me != LATE ->	/* rm of the spare name */
				spare = 0; recorder = 0; leave_window(); r = AGAIN;
				STEP(unlockAndClose(next))
			:: STEP(rename_spare(g, 0, as))
			fi
#else
			STEP(rename_spare(g, 0, as));
#endif
#ifdef EXEC_FAILS
			if
			:: me != LATE ->	/* Publish fails after the rename: COMMAND cannot be executed */
				drop_spare(hold);
				STEP(if :: path == hold -> unlink_path(g) :: else fi; takes_leave(g));
				STEP(unlockAndClose(hold); said = 0);
				r = FAILED
			:: true
			fi
#endif
		:: else ->
			drop_spare(next);
			STEP(unlockAndClose(next); leave_window())
		fi
	:: else -> leave_window()
	fi
}

/* unlinkIf, of the spare name */
inline drop_spare(f) {
	STEP(if :: spare == f -> printf("%d: unlinks the spare name\n", me); unlink_spare() :: else fi)
}

/* createSpare makes the file next, which has the spare name. */
inline createSpare(as) {
	link_spare(as);
	if
	:: r == AGAIN -> STEP(printf("%d: unlinks the spare name\n", me); unlink_spare()); link_spare(as)
	:: else
	fi
}

/* createAnonymous is part of it: no process can see a file before it has a name. */
inline link_spare(as) {
	STEP(
		if
		:: spare == 0 ->
			new_file(next); lock[next] = me; set_ofd(next); text[next] = as; spare = next; recorder = me;
			printf("%d: links file %d to the spare name\n", me, next); r = OK
		:: else -> r = AGAIN
		fi)
}

inline rename_spare(g, from, named) {
	MUST(spare == next, only_ours);
#ifdef KNOWN_SPARE
	if
	:: spare == 0 -> printf("%d: cannot rename, and gives up\n", me); leave_window(); goto died
	:: spare != 0 && spare != next && from == 0 ->
		printf("%d: has renamed file %d, and gives up\n", me, spare);	/* Pending.renamed */
		x = path; path = spare; spare = 0; forget(x); x = 0; leave_window(); goto died
	:: else
	fi;
#endif
	MUST(MAY_GO(g) || from != 0 && holder == from, only_ours);
	printf("%d: renames file %d over file %d\n", me, spare, path);
	x = path; path = spare; spare = 0; recorder = 0; forget(x); x = 0;
	takes_leave(from); takes(g, next);
	if :: from != 0 -> fd = hold :: else fi;
	hold = next; next = 0; said = named; leave_window()
}

inline createNew(g) {
#ifdef INPLACE
	if
	:: inplace -> createNamed(g)
	:: else -> commit(g)
	fi
#else
	commit(g)
#endif
}

/* createAnonymous is part of it, too. */
inline commit(g) {
	STEP(
		if
		:: path == 0 ->
			new_file(hold); lock[hold] = me; set_ofd(hold); path = hold;
#ifndef TEXT_AFTER_LINK
			text[hold] = mypid;
#endif
			said = mypid;
			printf("%d: links file %d to the path\n", me, hold); takes(g, hold); r = OK
		:: else -> printf("%d: cannot link: the path is taken\n", me); r = AGAIN
		fi)
#ifdef TEXT_AFTER_LINK
	; if :: r == OK -> STEP(text[hold] = mypid) :: else fi
#endif
}

#ifdef INPLACE
inline createNamed(g) {
	STEP(
		if
		:: path == 0 -> new_file(fd); path = fd; foreign[fd] = 1; printf("%d: creates file %d\n", me, fd); r = OK
		:: else -> r = AGAIN
		fi);
	if
	:: r == OK -> STEP(if :: lock[fd] == 0 -> lock[fd] = me :: else -> close_other(fd); r = AGAIN fi)
	:: else
	fi;
	if
	:: r == OK -> STEP(if :: path != fd -> r = AGAIN :: else fi)
	:: else
	fi;
	if
	:: r == OK -> inPlace(g); if :: r == HELD -> r = AGAIN :: else fi
	:: else
	fi;
	if
	:: r == AGAIN && fd != 0 -> STEP(unlockAndClose(fd))
	:: else
	fi
}

inline inPlace(g) {
#ifdef FCNTL
	STEP(			/* ofdLock */
		if
		:: ofd[fd] != 0 -> printf("%d: file %d has an fcntl lock\n", me, fd); locked = 1; r = HELD
		:: ofd[fd] == 0 && reads[fd] != 0	/* five times: flock alone decides */
		:: else -> ofd[fd] = me; takings++
		fi);
#endif
	if
	:: r == OK ->
		STEP(
			foreign[fd] = 1; stale[fd] = 0; text[fd] = mypid; said = mypid;
			printf("%d: writes into file %d\n", me, fd);
			hold = fd; fd = 0; takes(g, hold))
	:: else
	fi
}
#endif

inline release(g) {
#if CHILDREN
	r = OK;
	if :: handed -> part() :: else fi;
	if
	:: r == LEFT -> STEP(leave(); takes_leave(g)); releaseRetained()
	:: else -> remove(g)
	fi;
	if :: handed -> STEP(handed = 0; drop_handoff()) :: else fi;
#else
	remove(g);
#endif
	r = 0; said = 0
}

/* remove, and the rest of Release */
inline remove(g) {
	STEP(
		if
		:: CHECK(hold) -> enter_change(); r = OK
#ifdef WRITER
		:: OWNERLESS(hold) -> printf("%d: the text of file %d is no live process's\n", me, hold); enter_change(); r = OK
#endif
		:: !CHECK(hold) -> printf("%d: file %d is not ours any more\n", me, hold); takes_leave(g); r = CHANGED
		fi);
#ifdef UNLOCK_FIRST
	STEP(printf("%d: unlocks file %d\n", me, hold); unlock(hold));
#endif
	if
#ifdef INPLACE
	:: r == OK && inplace ->	/* where the directory is not ours to change, the file is emptied */
		STEP(if :: unlink_path(g) :: text[hold] = NOTEXT fi; takes_leave(g); leave_window())
	:: r == OK && !inplace ->
#else
	:: r == OK ->
#endif
		STEP(printf("%d: unlinks the path\n", me); unlink_path(g); takes_leave(g); leave_window())
	:: else
	fi;
#ifdef NO_UNLOCK
	STEP(printf("%d: closes file %d\n", me, hold); close_fd(hold));
#else
	STEP(unlockAndClose(hold));
#endif
	releaseRetained()
}

inline releaseRetained() {
	if :: old0 != 0 -> STEP(unlockAndClose(old0)) :: else fi;
#if KEEP == 2
	if :: old1 != 0 -> STEP(unlockAndClose(old1)) :: else fi
#endif
}

/* Who waits for the path's file must not have retained it: it would wait for itself. */
inline retainLeft() {
#ifdef NO_LEFT
	retain()
#else
	if
	:: path != fd -> retain()
	:: path == fd -> STEP(unlockAndClose(fd))
	fi
#endif
}

/* retain keeps fd. Of too many the oldest is given back. */
inline retain() {
	STEP(
		if
		:: old0 == 0 -> old0 = fd
#if KEEP == 2
		:: old0 != 0 && old1 == 0 -> old1 = fd
		:: else -> unlockAndClose(old0); old0 = old1; old1 = fd
#else
		:: else -> unlockAndClose(old0); old0 = fd
#endif
		fi;
		fd = 0)
}

#if RECORDS || CHILDREN
/* record records the PID as, for g, who takes the file from from. */
inline record(as, g, from) {
	STEP(if :: CHECK(hold) -> enter_window(); r = OK :: else -> r = CHANGED fi);
	if
#ifdef INPLACE
	:: r == OK && inplace -> STEP(text[hold] = as; said = as; leave_window())
	:: r == OK && !inplace ->
#else
	:: r == OK ->
#endif
		createSpare(as);
		if
		:: r == OK -> STEP(if :: CHECK(hold) -> enter_change(); r = OK :: else -> r = CHANGED fi)
		:: else
		fi;
		if
		:: r == OK ->
			STEP(rename_spare(g, from, as));
			retain()
		:: r == CHANGED ->
			drop_spare(next);
			STEP(unlockAndClose(next); leave_window())
		:: else -> leave_window()
		fi
	:: else
	fi
}
#endif

#if REMOVALS
/*
 * renew publishes a file again, where there is none now, or a stale one: that is replaced
 * as by any start.
 */
inline renew(g) {
	STEP(r = (CHECK(hold) -> OK : CHANGED));
	if
	:: r == CHANGED ->
		open();
		if
		:: r == NOENT ->
			STEP(
				if
				:: path == 0 ->
					new_file(next); lock[next] = me; set_ofd(next); text[next] = said; path = next;
					printf("%d: links file %d to the path again\n", me, next);
					takes(g, next); fd = hold; hold = next; next = 0; r = OK
				:: else -> printf("%d: the path is taken\n", me)
				fi);
			if :: r == OK -> retain() :: else fi
		:: else ->
			STEP(
				if
				:: lock[fd] == 0 -> lock[fd] = me; printf("%d: locks file %d\n", me, fd)
				:: else -> printf("%d: the path is another's\n", me); close_other(fd); r = HELD
				fi);
			if
			:: r == OK ->
				atomic { kept = hold; hold = 0 };
				decide(g, said);
				STEP(unlockAndClose(fd));
				if
				:: r == OK -> atomic { fd = kept; kept = 0 }; retain()
				:: else -> atomic { hold = kept; kept = 0 }
				fi
			:: else
			fi
		fi
	:: else
	fi
}
#endif

/* ---- wait.go ---- */

/* serve takes the file for one waiter, of whom there is no other in the process. */
inline serve(g) {
	do
	::
#ifdef WAIT_ON_OLDER
		/* Woken in vain, it goes back to the file that first refused it. */
		if
		:: old0 != 0 && first != 0 -> fd = first; first = 0; r = OK
		:: else -> open()
		fi;
#else
		open();
#endif
		if
		:: r == NOENT -> createNew(g)
		:: else ->
			block();
			if
			:: r == LEFT ->
				STEP(unlockAndClose(fd));
#ifndef NO_DROP
				releaseRetained();
#endif
				break
			:: else -> decide(g, mypid)
			fi
		fi;
		if
		:: r == HELD ->
			STEP(unlock(fd));
#ifdef FCNTL
			if :: locked -> waitOFD() :: else fi;
#endif
			STEP(close_other(fd))		/* waitUnlocked returns after ten seconds */
		:: else ->
			if :: fd != 0 -> retainLeft() :: else fi;
			if :: r == OK -> break :: else fi
		fi
	od
}

/* The flock that blocks. Meanwhile the waiter's context may end. */
inline block() {
	if
	:: atomic { lock[fd] == 0 -> lock[fd] = me; printf("%d: is woken, has locked file %d\n", me, fd) }
	:: atomic {
		lock[fd] != 0 && cancels > 0 ->
			cancels--; printf("%d: context ends\n", me); r = LEFT }
	:: KILLED
	fi;
	if
	:: r == LEFT -> STEP(lock[fd] == 0 -> lock[fd] = me)
	:: else
	fi
}

#ifdef FCNTL
inline waitOFD() {
	STEP(ofd[fd] == 0 -> reading = 1; reads[fd]++);
	STEP(end_read())
}
inline end_read() { if :: reading -> reading = 0; reads[fd]-- :: else fi }
#else
inline end_read() { skip }
#endif

/* ---- handoff.go ---- */

#if !CHILDREN
inline begin_guard() { r = OK }
inline end_guard() { skip }
#else
inline take_handoff() {
#ifdef NO_HANDOFF
	skip
#else
	STEP(handoff == 0 -> handoff = me)
#endif
}

inline drop_handoff() { if :: handoff == me -> handoff = 0 :: else fi }

/* adopted: unclaimed, or what a child has made of the file */
#define ADOPTED (CHECK(hold) -> UNCLAIMED : state)

/* guarded is a bracket: what begin_guard finds to be a child's is left alone. */
inline begin_guard() {
	r = OK;
	if
	:: handed -> take_handoff(); STEP(r = (ADOPTED == UNCLAIMED -> OK : CHANGED))
	:: else
	fi
}

inline end_guard() {
	if
	:: handed -> STEP(handed = (hold == inherited); drop_handoff())
	:: else
	fi
}

inline part() {
	take_handoff();
#ifdef NO_STATE
	STEP(r = (CHECK(hold) -> OK : CHANGED));
#else
	STEP(r = (CHECK(hold) -> OK : (state == INSTEAD -> LEFT : CHANGED)));
#endif
	if
	:: r == OK -> STEP(unlink_spare())	/* of a child that crashed */
	:: else
	fi
}

inline leave() { printf("%d: leaves file %d to the child\n", me, hold); close_fd(hold) }

/* claim: the inherited descriptor is hold. */
inline claim(g) {
	STEP(said = statepid; if :: CHECK(hold) -> r = OK :: else -> r = CHANGED fi);
	if
	:: r == OK ->
		STEP(
			if
			:: lock[hold] == SHARED
			:: lock[hold] == 0 -> lock[hold] = SHARED
			:: else -> r = CHANGED
			fi)
	:: else
	fi;
	if
	:: r == OK ->
		STEP(state = REPLACED);
		if
		:: record(mypid, g, 1); if :: r == OK -> releaseRetained() :: else -> STEP(state = UNCLAIMED) fi
		:: STEP(state = INSTEAD);	/* no room for a second file */
			STEP(if :: CHECK(hold) -> enter_window(); r = OK :: else -> r = CHANGED fi);
			if
			:: r == OK ->
				STEP(
					MUST(MAY_GO(g) || holder == 1, only_ours);
					printf("%d: writes into file %d\n", me, hold);
					text[hold] = mypid; said = mypid; takes_leave(1); takes(g, hold); leave_window())
			:: else -> STEP(state = UNCLAIMED)
			fi
		:: STEP(state = UNCLAIMED); r = FAILED
		fi
	:: else
	fi
}
#endif

/* ---- the processes ---- */

/* Between acquiring and releasing. */
inline holds() {
	do
#if RECORDS
	:: atomic { records > 0 && mortal -> records--; if :: as = mypid :: as = WORKER fi };
		begin_guard();
		if :: r == OK -> record(as, me, me) :: else fi;
		end_guard();
		as = 0; r = 0
#endif
#if REMOVALS
	:: path != hold && mortal && !inplace ->
		begin_guard();
		if :: r == OK -> renew(me) :: else fi;
		end_guard();
		r = 0
#endif
#if CHILDREN
	:: me == 1 && forks > 0 && (!sharing || inherited == hold) -> STEP(fork())
#endif
	:: release(me); break
	od
}

#if CHILDREN
/*
 * File.HandOff, and the start of the child. COMMAND inherits SHARED, too, which has
 * the flock, but never its parent's other description, which has the OFD lock.
 */
inline fork() {
	forks--; total++;
	if
	:: !sharing -> sharing = 1; inherited = hold; sharers = 1; lock[hold] = SHARED
	:: else
	fi;
#ifndef COMMAND
	if
	:: !handed -> handed = 1; state = UNCLAIMED; statepid = said
	:: else
	fi;
#endif
	sharers++;
	printf("%d: hands down file %d\n", me, hold);
	run child(CHILD + CHILDREN - 1 - forks)
}
#endif

/* What the kernel does for a process that was killed, in any order. */
inline cleanup() {
	do
	:: atomic { fd != 0 -> end_read(); close_fd(fd) }
	:: atomic { hold != 0 -> close_fd(hold) }
#if REMOVALS
	:: atomic { kept != 0 -> close_fd(kept) }
#define NOTHING_KEPT (kept == 0)
#else
#define NOTHING_KEPT true
#endif
	:: atomic { next != 0 -> close_fd(next) }
	:: atomic { old0 != 0 -> close_fd(old0) }
	:: atomic { old1 != 0 -> close_fd(old1) }
#if CHILDREN
	:: atomic { handoff == me -> handoff = 0 }
	:: fd == 0 && hold == 0 && next == 0 && old0 == 0 && old1 == 0 && NOTHING_KEPT && handoff != me -> break
#else
	:: fd == 0 && hold == 0 && next == 0 && old0 == 0 && old1 == 0 && NOTHING_KEPT -> break
#endif
	od
}

/* A new process. Its PID is that of one that has ended, or a new one. */
inline start() {
	if
	:: !alive[1] -> mypid = 1
	:: !alive[2] -> mypid = 2
#if USERS > 1
	:: !alive[3] -> mypid = 3
#endif
	fi;
	alive[mypid] = 1;
	printf("%d: starts as PID %d\n", me, mypid);
	if
	:: printf("%d: cannot be told from who had the PID before\n", me)
	:: true ->
		x = 1;
		do
		:: x > FILES -> break
		:: else -> if :: text[x] == mypid -> stale[x] = 1 :: else fi; x++
		od;
		x = 0
	fi
}

/* Whether a process has the file, or took it during this attempt. */
#ifdef FCNTL
#define SOMEBODY (fcntled != 0 || path != 0 && ofd[path] != 0)
#define watch_others() atomic { seen = SOMEBODY; before = takings }
#define refused_justly() MUST(!locked || seen || takings != before || SOMEBODY, honest_refusal)
#else
#define watch_others() skip
#define refused_justly() skip
#endif

/*
 * A child that lives on after its parent's clean end counts as ended, too, and
 * must be no obstacle. After a holder was killed it may be one, until it ends.
 */
#if CHILDREN
#define EVERYBODY_ENDED (ended == total && (!bereft || sharers == 0))
#else
#define EVERYBODY_ENDED (ended == total)
#endif

/* A process that calls Acquire or AcquireContext. */
proctype user(byte me) {
	LOCALS;
	byte as, rounds = ROUNDS;
	atomic { me != LATE || EVERYBODY_ENDED -> mortal = (me != LATE); mypid = me; alive[me] = 1 };
#ifdef INPLACE
	inplace = (me == 2);
#endif
begin:
	do
	:: atomic { rounds > 0 -> rounds--; r = 0 };
		do
		::	watch_others();
			attempt(me);
			if
			:: r == OK -> break
			:: r == AGAIN
			:: r == HELD -> MUST(me != LATE, can_start); refused_justly(); break	/* Acquire */
			:: r != OK && me != LATE -> serve(me); break		/* AcquireContext */
			fi
		od;
		if
		:: r == OK -> r = 0; holds()
		:: else
		fi;
#ifdef WAIT_ON_OLDER
		if :: first != 0 -> close_other(first) :: else fi;
#endif
		r = 0
	:: atomic { rounds == 0 -> alive[mypid] = 0; break }
	od;
#if CHILDREN
	if :: me == 1 -> through = 1 :: else fi;
#endif
	goto over;
died:
	cleanup();
	atomic {
		alive[mypid] = 0; handed = 0; said = 0; locked = 0; as = 0;
		if
		:: rounds > 0 -> start(); goto begin
		:: else
		fi };
over:	ended++
}

#if CHILDREN
proctype child(byte me) {
	LOCALS;
	atomic { mortal = 1; sharing = 1; hold = inherited; mypid = CHILDPID(me); alive[mypid] = 1 };
	if
#ifndef COMMAND
	:: true ->
		take_handoff();
		claim(me);
		if
		:: r == OK -> r = 0; STEP(drop_handoff()); release(me)
		:: r == CHANGED -> STEP(close_fd(hold)); STEP(drop_handoff())
		:: else -> STEP(drop_handoff())
		fi
#endif
	:: true		/* it never adopts */
	fi;
	if
	:: hold != 0 && through && !bereft -> ended++; goto stays	/* and lives on after its parent's end */
	:: atomic { true -> alive[mypid] = 0 }; if :: hold != 0 -> STEP(close_fd(hold)) :: else fi; goto over
	fi;
died:
	cleanup();
	alive[mypid] = 0;
over:	ended++; goto gone;
stays:
end:	atomic { bereft -> alive[mypid] = 0; close_fd(hold) };
gone:	skip
}
#endif

#if WAITERS
/*
 * The waiters of one process: queues.m[path], and what each queue has. Whatever
 * is done under the mutex queues is one step.
 */
#define QUEUES 3
byte current;			/* the queue in queues.m */
bit serving[QUEUES+1];
byte on[QUEUES+1];
byte w1[QUEUES+1], w2[QUEUES+1], w3[QUEUES+1];	/* q.waiters */
bit left[WAITERS+1];
byte done[WAITERS+1];
byte got[WAITERS+1], got0[WAITERS+1], got1[WAITERS+1];	/* the Hold that a waiter is given */

inline leave_queue(q, w) {
	if
	:: w1[q] == w -> w1[q] = w2[q]; w2[q] = w3[q]; w3[q] = 0; r = LEFT
	:: w2[q] == w -> w2[q] = w3[q]; w3[q] = 0; r = LEFT
	:: w3[q] == w -> w3[q] = 0; r = (LEFT+0)	/* so written for run to tell it apart */
	:: else -> left[w] = 1
	fi
}

inline back(q, w) {
	if
	:: left[w] -> done[w] = AGAIN
	:: else -> w3[q] = w2[q]; w2[q] = w1[q]; w1[q] = w
	fi;
	w = 0
}

/* Wait, and the goroutine that calls it */
proctype waiter(byte w) {
	LOCALS;
	byte q, there, rounds = ROUNDS;
	byte me = CHILD;
	mypid = CHILDPID(CHILD); alive[mypid] = 1;
	do
	:: rounds > 0 ->
		rounds--;
		attempt(WAITER(w));
		if
		:: r == OK
		:: else ->
			there = path;
			atomic {	/* join */
				r = 0; q = current;
				if
				:: q == 0 || on[q] != 0 && on[q] != there ->
					q = (!serving[1] -> 1 : (!serving[2] -> 2 : 3));
					MUST(!serving[q], out_of_files);
					serving[q] = 1; current = q; run server(CHILD, q)
				:: else
				fi;
				there = 0;
				if
				:: w1[q] == 0 -> w1[q] = w
				:: w1[q] != 0 && w2[q] == 0 -> w2[q] = w
				:: else -> w3[q] = w
				fi };
			if
			:: done[w] != 0
			:: atomic { cancels > 0 -> cancels--; printf("waiter %d: context ends\n", w); leave_queue(q, w) }
			fi;
			q = 0;
			if
			:: r == LEFT
			:: else ->
				atomic {
					done[w] != 0 ->
						r = done[w]; done[w] = 0; left[w] = 0;
						hold = got[w]; old0 = got0[w]; old1 = got1[w]; got[w] = 0; got0[w] = 0; got1[w] = 0;
						if :: r == OK -> said = mypid :: else fi }
			fi
		fi;
		if :: r == OK -> release(WAITER(w)) :: else fi;
		r = 0
	:: rounds == 0 -> break
	od;
died:	ended++
}

proctype server(byte me, q) {
	LOCALS;
	byte w;
	mypid = CHILDPID(CHILD);
	do
	::	open();
		if
		:: r == OK ->
			atomic {	/* blocks */
				on[q] = fd;
				if
				:: current == q || w1[q] != 0
				:: else -> close_other(fd); r = LEFT
				fi };
			if
			:: r == OK -> atomic { lock[fd] == 0 -> lock[fd] = me; printf("queue %d: has locked file %d\n", q, fd) }
			:: else -> releaseRetained(); break
			fi
		:: else
		fi;
		atomic {	/* next */
			if
			:: w1[q] == 0 -> if :: current == q -> current = 0 :: else fi
			:: else -> w = w1[q]; w1[q] = w2[q]; w2[q] = w3[q]; w3[q] = 0
			fi };
		if
		:: w == 0 ->
#ifndef NO_DROP
			if :: fd != 0 -> STEP(unlockAndClose(fd)) :: else fi;
#endif
			releaseRetained(); break
		:: w != 0 && r == OK -> decide(WAITER(w), mypid)
		:: else -> createNew(WAITER(w))
		fi;
		if
		:: r == HELD -> atomic { back(q, w) }; STEP(unlock(fd)); STEP(close_other(fd))
		:: r == AGAIN -> atomic { back(q, w) }; if :: fd != 0 -> retainLeft() :: else fi
		:: else ->
			if :: fd != 0 -> retain() :: else fi;
			atomic {
				got[w] = hold; got0[w] = old0; got1[w] = old1; hold = 0; old0 = 0; old1 = 0; said = 0;
				done[w] = OK; w = 0 }
		fi
	od;
	atomic { serving[q] = 0; on[q] = 0 };
died:	skip
}
#endif

#ifdef FLOCKER
/* flock(1): it locks what is there and never looks back. */
proctype flocker() {
	byte fd, x;
	if
	:: atomic { path != 0 -> fd = path; refs[fd]++ }
	:: atomic { path == 0 && NO_WINDOW -> new_file(fd); foreign[fd] = 1; path = fd }
	fi;
	if
	:: atomic { lock[fd] == 0 -> lock[fd] = STRANGER; flocked = fd }
	:: atomic { lock[fd] != 0 -> refs[fd]--; forget(fd); fd = 0 }	/* flock -n */
	fi;
	if
	:: fd != 0 -> atomic { lock[fd] = 0; flocked = 0; refs[fd]--; forget(fd); fd = 0 }
	:: else
	fi;
	ended++
}
#endif

#ifdef WRITER
/* python-pidfile, and worse: it writes in place or renames a file over the path. */
proctype writer() {
	byte fd, x;
	alive[WRITERPID] = 1;
	if
	:: path != 0 && text[path] != NOTEXT && text[path] != WORKER && alive[text[path]] -> goto gone
	:: else
	fi;
	if
	:: atomic { path != 0 && NO_WINDOW -> fd = path; refs[fd]++; text[fd] = NOTEXT; foreign[fd] = 1 }
	:: atomic { path == 0 && NO_WINDOW -> new_file(fd); path = fd; foreign[fd] = 1 }
	:: atomic { NO_WINDOW ->
		new_file(fd); foreign[fd] = 1; text[fd] = WRITERPID;
		if :: holder != 0 && file == path -> holder = 0; file = 0 :: else fi;
		x = path; path = fd; forget(x); x = 0; written = fd }
	fi;
	if
	:: atomic { NO_WINDOW -> text[fd] = WRITERPID; stale[fd] = 0; refs[fd]--; if :: path == fd -> written = fd :: else fi; forget(fd); fd = 0 }
	:: atomic { true -> refs[fd]--; forget(fd); fd = 0 }	/* killed */
		goto gone
	fi;
	if
	:: atomic {	/* it removes what is there, whosever that is */
		NO_WINDOW ->
		written = 0;
		if :: holder != 0 && file == path -> holder = 0; file = 0 :: else fi;
		x = path; path = 0; forget(x); x = 0 }
	:: true		/* killed */
	fi;
gone:	written = 0; alive[WRITERPID] = 0; ended++
}
#endif

#if REMOVALS
/* rm */
active proctype remover() {
	byte x;
end:	do
	:: atomic {
		removals > 0 && path != 0 && NO_WINDOW ->
			removals--; printf("rm file %d\n", path);
			if :: file == path -> holder = 0; file = 0 :: else fi;
			x = path; path = 0; forget(x); x = 0 }
	od
}
#endif

#ifdef FCNTL
/*
 * A program that locks the whole file with fcntl(2), for writing, and then it is
 * that program's; or only for reading, which is to disturb no process.
 */
#define COMMANDS(f) (CHILDREN && path == (f) && lock[f] == SHARED)
proctype fcntl_locker() {
	byte fd, x;
	if
	:: atomic { path != 0 -> fd = path; refs[fd]++ }
	:: goto gone
	fi;
	if
	:: atomic {
		ofd[fd] == 0 && reads[fd] == 0 && !OFD_INHERITED(fd) && NO_WINDOW ->
			MUST(!(holder != 0 && file == fd && BORN(fd)) && !COMMANDS(fd), one_holder);
			ofd[fd] = STRANGER; fcntled = fd; takings++ };
		atomic { ofd[fd] = 0; fcntled = 0 }
#ifdef KNOWN_WAIT
	:: atomic { ofd[fd] == 0 && reads[fd] != 0 -> MUST(SOMEBODY, honest_refusal) }
#else
	:: atomic { ofd[fd] == 0 -> reads[fd]++ };
		atomic { reads[fd]-- }
#endif
	:: true
#ifdef FCNTL_WAITS
	:: true -> ofd[fd] == 0 && reads[fd] == 0 && !OFD_INHERITED(fd)	/* F_SETLKW */
#endif
	fi;
	atomic { refs[fd]--; forget(fd); fd = 0 }
gone:	ended++
}
#endif

#ifdef CLEANER
/* Remove, of look.go: Clean. */
proctype cleaner(byte me) {
	LOCALS;
	mortal = 1;
	open();
	if
	:: r == OK ->
		STEP(if :: lock[fd] == 0 -> lock[fd] = me :: else -> close_other(fd); r = HELD fi);
		if
		:: r == OK -> STEP(if :: path == fd -> enter_window() :: else -> r = HELD fi)
		:: else
		fi;
		if
		:: r == OK ->
			STEP(
				if
#ifdef FCNTL
				:: OFD_LOCKED(fd) -> leave_window(); r = HELD
#endif
				:: RUNNING(fd) -> leave_window(); r = HELD
				:: else
				fi)
		:: else
		fi;
		if
		:: r == OK -> STEP(if :: path == fd -> enter_change() :: else -> leave_window(); r = HELD fi)
		:: else
		fi;
		if
		:: r == OK -> STEP(unlink_spare()); STEP(printf("%d: cleans\n", me); unlink_path(me); leave_window())
		:: else
		fi;
		if :: fd != 0 -> STEP(unlockAndClose(fd)) :: else fi
	:: else
	fi;
	goto over;
died:	cleanup();
over:	ended++
}
#endif

#define IN_PIECES(i) (used(i) && text[i] == NOTEXT && BORN(i))
#define LOCK_OF(g) (lock[file] == (g) || CHILDREN && lock[file] == SHARED || WAITERS && (g) >= CHILD && lock[file] == CHILD)

/*
 * A process that reads the path at any time, and reads on in a file that it opened
 * at any time before. It is never held up, and costs no state: its guards are the
 * properties' opposites.
 */
active proctype reader() {
end:	if
	:: !LEFT_OUT(whole_text) && (IN_PIECES(1) || IN_PIECES(2) || IN_PIECES(3) || IN_PIECES(4) ||
		IN_PIECES(5) || IN_PIECES(6) || IN_PIECES(7) || IN_PIECES(8)) -> assert(whole_text)
	:: !LEFT_OUT(still_there) && holder != 0 && (path != file || !LOCK_OF(holder)) -> assert(still_there)
	fi
}

init {
	atomic {
		if
		:: true
		:: path = 1; text[1] = PIDS	/* a stale file */
		fi;
		run user(1);
#if USERS > 1
		run user(2);
#endif
#if USERS > 2
		run user(3);
#endif
#ifdef FLOCKER
		total++; run flocker();
#endif
#ifdef WRITER
		total++; run writer();
#endif
#ifdef FCNTL
		total++; run fcntl_locker();
#ifdef KNOWN_WAIT
		total++; run fcntl_locker();
#endif
#endif
#ifdef CLEANER
		total++; run cleaner(CLEANER_ID);
#endif
#if WAITERS
		total = total + WAITERS; run waiter(1);
#if WAITERS > 1
		run waiter(2);
#endif
#if WAITERS > 2
		run waiter(3);
#endif
#endif
#ifndef FAIR
		run user(LATE)
#endif
	}
}

#ifdef FAIR
/* Whoever waits gets the file or gives up: all come to their end. */
ltl all_end { <> (ended == total) }
#endif
