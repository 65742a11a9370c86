/* log.h - what the server tells its operator: one line an event, key=value
 *
 *	time=2026-11-25T18:41:27.123Z level=warning what=client-refused minor=0 text="…"
 *
 * To standard error or syslog.  One `what` is told at most LOG_BURST times in
 * LOG_PERIOD_S seconds: the next line after that says how many were left out (suppressed=N).  A
 * standard error that does not take a line at once (a full pipe) loses it: the server
 * never waits for its reader.  The one global state of the server; any thread.
 */
#ifndef TAPDISK_LOG_H
#define TAPDISK_LOG_H

#include <stdbool.h>

#define LOG_BURST    10u
#define LOG_PERIOD_S 10
#define LOG_NO_MINOR (-1)

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* @program is borrowed for good.  Before: standard error, info. */
void log_open(const char *program, bool to_syslog, enum log_level level);
/* "error", "warning", "info", "debug".  False: another word. */
bool log_level_parse(const char *word, enum log_level *out);

/* @what: a short stable word; @minor: of the disk it is about, or LOG_NO_MINOR. */
void log_write(enum log_level level, const char *what, int minor, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
